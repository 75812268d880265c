"""The style of figures: the same bytes from the same data, and curves that can be told apart without colour."""

from constructed_runs import gathered_for, over_sparsity, own_figure
from matplotlib.colors import to_rgb

from results.figures import style
from results.figures.by_name import draw
from sparse_rnn.tables.declaration import load


def test_the_same_data_give_the_same_bytes(catalogue, tmp_path):
    written = []
    for folder in ("first", "second"):
        drawing = draw("figure6", gathered_for(load("figure6"), catalogue))
        paths = style.save(drawing.figure, drawing.data, tmp_path / folder / "figure6")
        written.append([path.read_bytes() for path in paths])
    assert written[0] == written[1]


def test_the_users_settings_do_not_change_a_figure(catalogue, tmp_path):
    import matplotlib as mpl

    gathered = gathered_for(own_figure(over_sparsity(0.5, 0.8)), catalogue)
    plain = draw("own", gathered)
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "lines.linewidth": 9}):
        changed = draw("own", gathered)
    paths = [style.save(each.figure, each.data, tmp_path / str(k))[0] for k, each in enumerate((plain, changed))]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_neighbours_differ_without_colour():
    def luminance(color):
        red, green, blue = to_rgb(color)
        return 0.299 * red + 0.587 * green + 0.114 * blue

    for number in range(len(style.COLORS) - 1):
        one, other = style.line(number), style.line(number + 1)
        assert one["color"] != other["color"]
        assert one["linestyle"] != other["linestyle"]
        assert one["marker"] != other["marker"]
        assert style.bar(number)["hatch"] != style.bar(number + 1)["hatch"]
        assert abs(luminance(one["color"]) - luminance(other["color"])) > 0.1
