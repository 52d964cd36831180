.PHONY: setup demo test soak check

setup:
	./dev setup

demo:
	./dev demo

test:
	./dev test

soak:
	./dev soak

check:
	./dev check
