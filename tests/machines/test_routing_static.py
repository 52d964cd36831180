"""Static routes: most specific pattern, then priority, then order."""

from tumpline.machines.plan import Route
from tumpline.machines.routing.static import SPEC, StaticConfig
from tumpline.wire.eid import Eid
from tumpline.wire.eid_pattern import EidPattern


def route(to: str, via: str, priority: int = 10) -> Route:
    return Route(EidPattern.parse(to), Eid.parse(via), priority)


def hops(destination: str, *routes: Route) -> list[str]:
    strategy = SPEC.open(StaticConfig())
    for each in routes:
        strategy.add(each)
    return [str(hop) for hop in strategy.next_hops(Eid.parse(destination))]


def test_order() -> None:
    found = hops(
        "dtn://far/files",
        route("*:**", "dtn://any/", 1),
        route("dtn://far/**", "dtn://b/", 20),
        route("dtn://far/**", "dtn://a/", 5),
        route("dtn://far/files", "dtn://exact/", 99),
        route("dtn://other/**", "dtn://no/"),
    )
    assert found == ["dtn://exact/", "dtn://a/", "dtn://b/", "dtn://any/"]


def test_a_hop_is_named_once() -> None:
    assert hops("ipn:9.1", route("ipn:0.9.*", "ipn:2.0"), route("ipn:**", "ipn:2.0")) == ["ipn:2.0"]


def test_adding_again_replaces_and_removing_tells() -> None:
    strategy = SPEC.open(StaticConfig())
    strategy.add(route("ipn:0.9.*", "ipn:2.0", 10))
    strategy.add(route("ipn:0.9.*", "ipn:2.0", 3))
    assert [each.priority for each in strategy.routes()] == [3]
    assert strategy.remove(EidPattern.parse("ipn:0.9.*"), Eid.parse("ipn:2.0"))
    assert not strategy.remove(EidPattern.parse("ipn:0.9.*"), Eid.parse("ipn:2.0"))
    assert strategy.next_hops(Eid.parse("ipn:9.1")) == []
