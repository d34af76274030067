from hypothesis import given
from hypothesis import strategies as st

from gateway.core.filters import disjoint_cover, minimal_cover
from gateway.core.trie import FilterTrie, NameTree
from tests.unit import naive

LEVEL = st.sampled_from(["a", "b", "c", "$s"])
NAMES = st.lists(LEVEL, min_size=1, max_size=5).map("/".join)


@st.composite
def filters(draw: st.DrawFn) -> str:
    levels = draw(st.lists(st.one_of(LEVEL, st.just("+")), min_size=0, max_size=4))
    if not levels or draw(st.booleans()):
        levels.append("#")
    return "/".join(levels)


@given(st.lists(filters()), NAMES)
def test_trie_matches_what_a_naive_matcher_matches(held: list[str], name: str) -> None:
    trie: FilterTrie[str] = FilterTrie()
    for topic_filter in held:
        trie.add(topic_filter, topic_filter)
    assert sorted(trie.match(name.split("/"))) == sorted({f for f in held if naive.matches(f, name)})
    assert len(trie) == len(set(held))


@given(st.lists(filters()), st.lists(filters()), NAMES)
def test_what_is_removed_matches_no_more_and_leaves_nothing_behind(held: list[str], gone: list[str], name: str) -> None:
    trie: FilterTrie[str] = FilterTrie()
    for topic_filter in held:
        trie.add(topic_filter, topic_filter)
    for topic_filter in gone:
        trie.remove(topic_filter, topic_filter)
    left = set(held) - set(gone)
    assert sorted(trie.match(name.split("/"))) == sorted({f for f in left if naive.matches(f, name)})
    for topic_filter in left:
        trie.remove(topic_filter, topic_filter)
    assert len(trie) == 0
    assert trie._root.is_empty()


@given(st.sets(filters(), max_size=6), filters(), st.lists(NAMES, max_size=30))
def test_covering_and_intersecting_agree_with_the_names_they_match(
    held: set[str], asked: str, names: list[str]
) -> None:
    trie: FilterTrie[str] = FilterTrie()
    for topic_filter in held:
        trie.add(topic_filter, topic_filter)
    covering, intersecting = trie.covering(asked), trie.intersecting(asked)
    assert set(covering) <= set(intersecting)
    for name in names:
        if naive.matches(asked, name):
            assert all(naive.matches(topic_filter, name) for topic_filter in covering)
            assert {f for f in held if naive.matches(f, name)} <= set(intersecting)


def test_covering_knows_the_corner_cases() -> None:
    trie: FilterTrie[str] = FilterTrie()
    for topic_filter in ("#", "a/#", "a/+", "a/b", "+/b"):
        trie.add(topic_filter, topic_filter)
    assert sorted(trie.covering("a/b")) == ["#", "+/b", "a/#", "a/+", "a/b"]
    assert sorted(trie.covering("a/#")) == ["#", "a/#"]
    assert sorted(trie.covering("a/+")) == ["#", "a/#", "a/+"]
    assert trie.covering("$SYS/b") == []
    assert sorted(trie.intersecting("a/+")) == ["#", "+/b", "a/#", "a/+", "a/b"]


@given(st.dictionaries(filters(), st.integers(0, 2), max_size=8), st.lists(NAMES, max_size=20))
def test_minimal_cover_matches_the_same_names_with_no_filter_to_spare(wanted: dict[str, int], names: list[str]) -> None:
    cover = minimal_cover(wanted)
    assert set(cover) <= set(wanted)
    for name in names:
        qos = max((q for f, q in wanted.items() if naive.matches(f, name)), default=None)
        covered = max((q for f, q in cover.items() if naive.matches(f, name)), default=None)
        assert (qos is None) == (covered is None)
        assert qos is None or covered is None or covered >= qos
    trie: FilterTrie[str] = FilterTrie()
    for topic_filter in cover:
        trie.add(topic_filter, topic_filter)
    assert all(trie.covering(topic_filter) == [topic_filter] for topic_filter in cover)


@given(st.dictionaries(filters(), st.integers(0, 2), max_size=8), st.lists(NAMES, max_size=20))
def test_disjoint_cover_matches_no_name_twice_and_none_too_few(wanted: dict[str, int], names: list[str]) -> None:
    cover = disjoint_cover(wanted)
    for name in names:
        matching = [topic_filter for topic_filter in cover if naive.matches(topic_filter, name)]
        assert len(matching) <= 1
        qos = max((q for f, q in wanted.items() if naive.matches(f, name)), default=-1)
        assert qos == -1 or cover[matching[0]] >= qos


@given(st.sets(NAMES), filters())
def test_name_tree_finds_what_a_naive_matcher_finds(names: set[str], asked: str) -> None:
    tree: NameTree[str] = NameTree()
    for name in names:
        tree.set(name, name)
    assert sorted(tree.find(asked)) == sorted(name for name in names if naive.matches(asked, name))
    for name in names:
        tree.remove(name)
    assert not tree._root.children


def test_a_name_with_very_many_levels_is_no_burden() -> None:
    trie: FilterTrie[str] = FilterTrie()
    trie.add("a/#", "rest")
    deep = "a/" * 30_000 + "a"
    trie.add(deep, "deep")
    assert sorted(trie.match(deep.split("/"))) == ["deep", "rest"]
    trie.remove(deep, "deep")
    tree: NameTree[str] = NameTree()
    tree.set(deep, "deep")
    assert list(tree.find("a/#")) == ["deep"]
    tree.remove(deep)
