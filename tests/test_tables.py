"""What is read of a CSV that a user wrote."""

from covjax.tables import read_user_csv


def test_rows_of_a_user_join_with_ids_that_look_like_formulas(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('\ufeff ID , Split,\n \'=a \n\n"b\nc", train ,x,y\n')
    columns, rows = read_user_csv(path)
    assert columns == ["id", "split", ""]
    assert rows == [(2, {"id": "=a", "split": ""}), (5, {"id": "b\nc", "split": "train"})]
