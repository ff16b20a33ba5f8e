"""fastai's rules on cases worked out by hand from its sources. The comparison with fastai itself is in oracle/."""

import time

import pytest

from bothways.text.fastai_cleaning import FASTAI_CONTROL_TOKENS, FASTAI_V1, FASTAI_V2, clean_before, mark_token

BOTH = (FASTAI_V1, FASTAI_V2)


def cleaned(text: str, rules: str) -> str:
    return clean_before(text, rules).removeprefix("xxbos ")


@pytest.mark.parametrize(
    ("text", "v1", "v2"),
    [
        ("", "", ""),
        ("it&#39;s", "it&'s", "it&'s"),
        ("a &amp; b", "a && b", "a && b"),
        ("&quot;a&quot; nbsp;b", "&'a&' b", "&'a&' b"),
        ("#146;#36;5", "'$5", "'$5"),
        (r"a\nb", "a \n b", "a\nb"),
        ("a<br />b", "a \n b", "a\nb"),
        (r"\"a\"", '"a"', '"a"'),
        ("a\\b", "a \\ b", "a \\ b"),
        ("<unk>", "xxunk", "xxunk"),
        ("1 @.@ 5 @-@ 2 @,@ 0", "1.5-2,0", "1.5-2 @,@ 0"),
        ("wait...", "wait...", "wait …"),
        ("&eacute;&#233;&lt;", "éé<", "éé<"),
        ("a   b", "a b", "a b"),
        ("!!! ????", "!!! xxrep 4 ? ", "xxrep 3 ! xxrep 4 ?"),
        ("11111", "xxrep 5 1 ", "xxrep 5 1"),
        ("no no no no ", "xxwrep 4 no ", "xxwrep 4 no"),
        ("no no no", "no no no", "xxwrep 3 no"),
        ("no, no, no, no, way", "xxwrep 4 no, way", "no, no, no, no, way"),
        ("a/b#c", "a / b # c", "a / b # c"),
        ("a\nb", "a \n b", "a\nb"),
        ("a\n\nb", "a \n \n b", "a\n\nb"),
        ("Hello NASA A", "Hello NASA A", "xxmaj hello xxup nasa a"),
        ("(Hello) NASA-led U.S.", "(Hello) NASA-led U.S.", "(hello) nasa-led xxup u.s."),
        ("IPhone iPhone", "IPhone iPhone", "iphone iphone"),
        ("İstanbul", "İstanbul", "i̇stanbul"),
        ("Ähnlich", "Ähnlich", "ähnlich"),
        (" a ", "a ", "a"),
    ],
)
def test_each_rule_does_what_fastai_does(text: str, v1: str, v2: str) -> None:
    assert cleaned(text, FASTAI_V1) == v1
    assert cleaned(text, FASTAI_V2) == v2


def test_the_special_tokens_of_a_text_stand_where_each_version_puts_them() -> None:
    assert clean_before("A", FASTAI_V1) == "xxbos A"
    assert clean_before("A", FASTAI_V1, marks_field=True, ends=True) == "xxbos xxfld 1 A xxeos"
    assert clean_before(" A ", FASTAI_V2, marks_field=True, ends=True) == "xxbos xxfld 1 a xxeos"
    assert clean_before("", FASTAI_V1) == "xxbos "
    assert clean_before("", FASTAI_V2) == "xxbos "
    assert clean_before("", FASTAI_V2, ends=True) == "xxbos  xxeos"


def test_typed_special_tokens_are_left_as_they_are() -> None:
    for rules in BOTH:
        assert clean_before("xxmaj xxpad", rules) == "xxbos xxmaj xxpad"


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("Hello", ("xxmaj", "hello")),
        ("HELLO", ("xxup", "hello")),
        ("U.S.", ("xxup", "u.s.")),
        ("A", ("a",)),
        ("McDonald", ("mcdonald",)),
        ("iPhone", ("iphone",)),
        ("hello", ("hello",)),
        ("İstanbul", ("xxmaj", "i̇stanbul")),
        ("\n \n ", ("\n \n ",)),
        ("1A", ("xxup", "1a")),
        ("A1", ("xxup", "a1")),
        ("𝐀B", ("xxup", "xxmaj", "𝐀b")),  # the first has no lower form, so it is a capital still
        ("𝐀𝐁", ("xxup", "𝐀𝐁")),
        ("", ()),
    ],
)
def test_v1_marks_capitals_by_token(token: str, expected: tuple[str, ...]) -> None:
    assert mark_token(token, FASTAI_V1) == expected


def test_v2_writes_spaces_in_tokens_as_a_sign() -> None:
    assert mark_token("  ", FASTAI_V2) == ("  ",)  # predict passes replace_space over
    assert mark_token("Word", FASTAI_V2) == ("Word",)


def test_the_versions_have_the_same_control_tokens_in_different_orders() -> None:
    first, second = (FASTAI_CONTROL_TOKENS[rules] for rules in BOTH)
    assert set(first) == set(second)
    assert first[:5] == second[:5] == ("xxunk", "xxpad", "xxbos", "xxeos", "xxfld")
    assert first[5:] == ("xxmaj", "xxup", "xxrep", "xxwrep")
    assert second[5:] == ("xxrep", "xxwrep", "xxup", "xxmaj")


@pytest.mark.parametrize("rules", BOTH)
def test_an_endless_entity_is_no_character(rules: str) -> None:
    for digits in (8, 4_300, 4_301, 50_000):
        assert cleaned(f"x&#{'9' * digits};y", rules) == "x\N{REPLACEMENT CHARACTER}y"
    assert cleaned(f"x&#{'0' * 4_000}97;y", rules) == "xay"


SIZE = 300_000
HOSTILE = {
    "one letter": "a" * SIZE,
    "capitals": "A" * SIZE,
    "capitals, then a small letter": "A" * SIZE + "a",
    "a capital, then small ones, then a capital": "A" + "a" * SIZE + "A",
    "alternating letters": "ab" * (SIZE // 2),
    "alternating words": "a b " * (SIZE // 4),
    "the same word": "a " * (SIZE // 2),
    "the same word, the last one not quite": "a " * (SIZE // 2) + "ab",
    "two of each": "a a b b " * (SIZE // 8),
    "words and many separators": ("a" + "!" * 1000) * (SIZE // 1001),
    "a word and spaces without end": "a" + " " * SIZE + "b",
    "words and spaces": ("ab" + " " * 1000) * (SIZE // 1002),
    "lines": "\n" * SIZE,
    "entities": "&amp;" * (SIZE // 5),
    "ampersands": "&" * SIZE,
    "broken entities": "&#" * (SIZE // 2),
    "an entity without end": "&#" + "1" * SIZE,
    "a hexadecimal entity without end": "&#x" + "1" * SIZE,
    "a name without end": "&" + "a" * SIZE,
    "backslashes": "\\" * SIZE,
    "dots": "." * SIZE,
    "capital words": "Aa AA " * (SIZE // 6),
}


@pytest.mark.parametrize("rules", BOTH)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_end(name: str, rules: str) -> None:
    started = time.monotonic()
    assert clean_before(HOSTILE[name], rules).startswith("xxbos")
    assert time.monotonic() - started < 10


def test_fields_are_joined_before_the_rules_apply() -> None:
    assert clean_before(("A\0", "B"), FASTAI_V1, marks_field=True, ends=True) == "xxbos xxfld 1 A xxfld 2 B xxeos"
    assert clean_before(("A", ""), FASTAI_V2, marks_field=True) == "xxbos xxfld 1 a xxfld 2"
