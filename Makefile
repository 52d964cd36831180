.PHONY: setup demo test soak check interop

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

interop:
	./dev interop
