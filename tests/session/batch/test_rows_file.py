"""Rows as people have them: read one at a time, or told by their line."""

import pytest

from wanflow.errors import InputError
from wanflow.session.batch.rows_file import LONGEST_BYTES, RowsFile


def rows_of(tmp_path, name, content):
    """Write a file and open it."""
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return RowsFile.open(path)


def all_of(rows):
    """Read every row, with its line."""
    return [(rows.line(n), rows.read(n)) for n in range(len(rows))]


class TestText:
    """A prompt a line."""

    def test_lines(self, tmp_path) -> None:
        """Empty ones are none; the last needs no end; Windows' ends and a mark before the text."""
        rows = rows_of(tmp_path, "a.txt", b"\xef\xbb\xbfa kite\r\n\r\n  two words  \n\xe5\xb1\xb1")
        assert all_of(rows) == [
            (1, {"prompt": "a kite"}),
            (3, {"prompt": "two words"}),
            (4, {"prompt": "山"}),
        ]

    def test_too_long(self, tmp_path) -> None:
        """The row is told, those behind it are found."""
        rows = rows_of(tmp_path, "a.txt", b"x" * (3 * LONGEST_BYTES) + b"\nnext\n")
        assert len(rows) == 2
        assert rows.read(1) == {"prompt": "next"}
        with pytest.raises(InputError, match=f"line 1: is longer than {LONGEST_BYTES} bytes"):
            rows.read(0)

    def test_not_utf8(self, tmp_path) -> None:
        """Only that row."""
        rows = rows_of(tmp_path, "a.txt", b"good\n\xff\xfe\n")
        assert rows.read(0) == {"prompt": "good"}
        with pytest.raises(InputError, match="line 2: is no UTF-8 at byte 0"):
            rows.read(1)


class TestTable:
    """A first line of names."""

    @pytest.mark.parametrize("mark", [",", ";", "\t"])
    def test_cells(self, tmp_path, mark) -> None:
        """An empty cell sets nothing; a cell in quotes may hold the mark, quotes and lines."""
        lines = ["prompt,seed,size", '"a, ""b""\n\nc",3,', "d,,32*32", ""]
        text = "\n".join(lines).replace(",", mark)
        rows = rows_of(tmp_path, "a.csv", text)
        assert all_of(rows) == [
            (2, {"prompt": f'a{mark} "b"\n\nc', "seed": "3"}),
            (5, {"prompt": "d", "size": "32*32"}),
        ]

    def test_cells_that_lack(self, tmp_path) -> None:
        """That row is told."""
        rows = rows_of(tmp_path, "a.csv", "prompt,seed\na\nb,1\n")
        assert rows.read(1) == {"prompt": "b", "seed": "1"}
        with pytest.raises(InputError, match="line 2: has 1 cells, the first line names 2"):
            rows.read(0)

    def test_quotes_that_stay_open(self, tmp_path) -> None:
        """The row that opens them is told."""
        rows = rows_of(tmp_path, "a.csv", 'prompt\ngood\n"never closed\nmore\n')
        assert len(rows) == 2
        with pytest.raises(InputError, match="line 3: unexpected end of data"):
            rows.read(1)

    @pytest.mark.parametrize("first", ["", "a,,b", "a,b,a"])
    def test_names(self, tmp_path, first) -> None:
        """Each once, none empty."""
        with pytest.raises(InputError, match="line 1: the first line names the columns"):
            rows_of(tmp_path, "a.csv", f"{first}\n1,2,3\n")

    @pytest.mark.parametrize(
        ("first", "told"),
        [("a\rb", "new-line character"), ("x" * 150_000, "field larger than field limit")],
    )
    def test_names_that_are_no_cells(self, tmp_path, first, told) -> None:
        """What csv refuses of the first line is told as of any other."""
        with pytest.raises(InputError, match=f"line 1: {told}"):
            rows_of(tmp_path, "a.csv", f"{first}\n1\n")


class TestJson:
    """An object a line."""

    def test_values(self, tmp_path) -> None:
        """Texts and numbers; null sets nothing; a list is paths with commas between."""
        rows = rows_of(
            tmp_path, "a.jsonl", '{"prompt": "a", "seed": 4, "x": null}\n\n{"images": ["a", "b"]}\n'
        )
        assert all_of(rows) == [(1, {"prompt": "a", "seed": 4}), (3, {"images": "a,b"})]

    @pytest.mark.parametrize(
        ("line", "told"),
        [
            ("{", "is no JSON"),
            ("[1]", "is no JSON object but"),
            ('{"seed": true}', "'seed' is true: a text or a number is wanted"),
            ('{"seed": {}}', "'seed' is {}"),
            ('{"seed": [{}]}', "'seed' is "),
            ("[" * 100_000, "is no JSON"),
        ],
    )
    def test_what_is_none(self, tmp_path, line, told) -> None:
        """Told by its line; the rows around it are read."""
        rows = rows_of(tmp_path, "a.jsonl", f'{{"seed": 1}}\n{line}\n')
        assert rows.read(0) == {"seed": 1}
        with pytest.raises(InputError, match="line 2: ") as caught:
            rows.read(1)
        assert told in caught.value.message


class TestFiles:
    """What is no file of rows."""

    def test_kind(self, tmp_path) -> None:
        """By its name."""
        with pytest.raises(InputError, match=r"rows are read from \.txt, \.csv, \.jsonl files"):
            rows_of(tmp_path, "a.yaml", "a")

    @pytest.mark.parametrize(("name", "text"), [("a.txt", " \n\n"), ("a.csv", "prompt\n")])
    def test_no_rows(self, tmp_path, name, text) -> None:
        """Nothing to do is a mistake."""
        with pytest.raises(InputError, match="has no rows"):
            rows_of(tmp_path, name, text)

    def test_missing(self, tmp_path) -> None:
        """No such file, or a folder."""
        with pytest.raises(InputError, match="No such file"):
            RowsFile.open(tmp_path / "none.txt")
        (tmp_path / "folder.txt").mkdir()
        with pytest.raises(InputError, match="Is a directory"):
            RowsFile.open(tmp_path / "folder.txt")


class TestLater:
    """A file that was sound when it was opened."""

    @pytest.mark.parametrize(
        ("name", "text"), [("a.txt", "one\ntwo\n"), ("a.csv", "prompt\none\ntwo\n")]
    )
    def test_shorter(self, tmp_path, name, text) -> None:
        """A row that is gone is told by its line."""
        rows = rows_of(tmp_path, name, text)
        rows.path.write_text("")
        with pytest.raises(InputError, match=r"line \d: is no longer there"):
            rows.read(1)

    def test_gone(self, tmp_path) -> None:
        """What the system refuses is told with the file."""
        rows = rows_of(tmp_path, "a.jsonl", '{"seed": 1}\n')
        rows.path.unlink()
        rows.path.mkdir()
        with pytest.raises(InputError, match=r"a\.jsonl: Is a directory"):
            rows.read(0)
