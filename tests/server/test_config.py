"""A Config is right or it is not made; what is wrong is named with its file and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from zabzmq.server.config import BASE_PORT_MAX, ConfigError, load


def from_file(tmp_path: Path, text: str) -> tuple[Path, str]:
    path = tmp_path / "cluster.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load(config=path, environ={})
    assert str(error.value).startswith(str(path)), "the file is named"
    assert error.value.exit_code == 1
    return path, str(error.value).removeprefix(str(path))


def test_five_nodes_on_one_base_by_default() -> None:
    config = load(environ={})
    assert config.cluster == "demo"
    assert config.ids == (0, 1, 2, 3, 4)
    assert config.listen(3) == (3, "127.0.0.1", 21803, 21813, 21823, 21833)
    assert config.client_endpoints[4] == "tcp://127.0.0.1:21814"
    assert set(config.origins.values()) == {"default", "none given"}


def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text('name = "filed"\nbase_port = 30000\ndata_dir = "d"\nlog_dir = "l"', encoding="utf-8")
    environ = {"ZAB_CONFIG": str(path), "ZAB_BASE_PORT": "31000", "ZAB_DATA_DIR": "e"}
    config = load(data_dir="f", environ=environ)
    assert (config.data_dir, config.origins["data_dir"]) == (Path("f"), "--data-dir")
    assert (config.base_port, config.origins["base_port"]) == (31000, "ZAB_BASE_PORT")
    assert (config.cluster, config.origins["cluster"]) == ("filed", str(path))
    assert (config.log_dir, config.origins["log_dir"]) == (Path("l"), str(path))
    assert (len(config.listens), config.origins["nodes"]) == (5, "default")


def test_the_file_places_each_node(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text('[[node]]\nid = 2\nhost = "::1"\nclient = 9002\n[[node]]\nid = 0\nvoter = true\n', encoding="utf-8")
    config = load(config=path, environ={})
    assert config.ids == (0, 2)
    assert config.listen(2).endpoint("client") == "tcp://[::1]:9002"
    assert config.listen(2).endpoint("publish") == "tcp://[::1]:21822"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("nmae = 'x'", "nmae"),
        ("[[node]]\nid = 0\nhots = 'a'", "[[node]] number 1: Object contains unknown field `hots`"),
        ("[[node]]\nhost = 'a'", "missing required field `id`"),
        ("[[node]]\nid = 9", "`id`"),
        ("[[node]]\nid = -1", "`id`"),
        ("[[node]]\nid = '1'", "`id`"),
        ("[[node]]\nid = 1\n[[node]]\nid = 1", "[[node]] number 2: id = 1 was given before"),
        ("[[node]]\nid = 1\npeer = 0", "`peer`"),
        ("[[node]]\nid = 1\npeer = 65536", "`peer`"),
        ("[[node]]\nid = 1\nvoter = false", "voter = false"),
        ("[[node]]\nid = 0\npeer = 7000\n[[node]]\nid = 1\nclient = 7000", "port 7000 of 127.0.0.1 is given to node 0"),
        ("base_port = 80", "`base_port`"),
        ("name = ''", "cluster name"),
        ('name = "a\\u0007"', "cluster name"),
        ("node = 3", "`node`"),
        ("name = ", "is not TOML"),
        ("\n".join(f"[[node]]\nid = {i}" for i in range(10)), "id"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path: Path, text: str, named: str) -> None:
    _, message = from_file(tmp_path, text)
    assert named in message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml: cannot be read: No such file"):
        load(config=tmp_path / "gone.toml", environ={})


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"ZAB_NODES": "0"}, "ZAB_NODES: 0 is not in the range 1 to 9"),
        ({"ZAB_NODES": "ten"}, "ZAB_NODES: 'ten' is not a whole number"),
        ({"ZAB_BASE_PORT": str(BASE_PORT_MAX + 1)}, "ZAB_BASE_PORT"),
        ({"ZAB_CLUSTER": "x" * 65}, "ZAB_CLUSTER: the cluster name"),
    ],
)
def test_what_is_wrong_in_the_environment_is_named(environ: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(environ=environ)
    assert named in str(error.value)
    assert error.value.exit_code == 2


def test_a_node_count_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text("[[node]]\nid = 0\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"--nodes says 3 nodes, .* lists 1"):
        load(config=path, nodes=3, environ={})


def test_the_voter_set_has_a_name_that_its_ids_alone_decide() -> None:
    assert load(environ={}).config_id == load(base_port=30000, cluster="other", environ={}).config_id
    assert load(environ={}).config_id != load(nodes=4, environ={}).config_id


def test_an_unknown_node_is_refused() -> None:
    with pytest.raises(ConfigError, match=r'there is no node 7 in cluster "demo": its nodes are 0 1 2 3 4'):
        load(environ={}).listen(7)
