"""What a user reads is one line, whatever was in the file that it quotes."""

from posecov.errors import LONGEST, PosecovError


def test_a_message_is_kept_as_it_is():
    assert str(PosecovError("a.jpg: no such file; give Ångström's")) == "a.jpg: no such file; give Ångström's"


def test_what_does_not_print_is_spelt_out():
    said = str(PosecovError("the name \x1b[2J\r\n\u202e\ud800 is wrong"))
    assert said == "the name \\x1b[2J\\r\\n\\u202e\\ud800 is wrong"


def test_long_messages_lose_their_middle():
    for middle in ("x", "\x00", "\n"):
        said = str(PosecovError(f"a.json: the field '{middle * 100_000}' is unknown; export the model again"))
        assert len(said) <= LONGEST
        assert said.startswith("a.json: the field")
        assert said.endswith("export the model again")
        assert said.isprintable()
