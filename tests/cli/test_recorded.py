"""What the commands do, as it was recorded: exit codes, words, JSON, files and pixels of some sixty sessions.

Each session of the table is run in a folder of its own, which holds what `inputs` puts there, and what comes of it is
compared with its file in tests/golden/recorded. What differs from run to run or from machine to machine is replaced:
figures by #, digits behind the third by ~, names by <...>. After a change that is meant record anew, and read the diff:

    BIDIFFSR_RECORD=1 pytest tests/cli/test_recorded.py
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from functools import cache
from pathlib import Path

import pytest
import typer
from conftest import needs_native
from hub_server import Hub
from PIL import ExifTags, Image

from .support import Finished, Run, decoded, environment, tiny_checkpoint

pytestmark = needs_native

TESTS = Path(__file__).parents[1]
RECORDED = TESTS / "golden" / "recorded"
MACHINE = {
    "BIDIFFSR_CPU_ISA": "portable",  # gives the same pixels on every processor
    "BIDIFFSR_DEVICE": "cpu",
    "BIDIFFSR_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",  # the devices that are here are named in messages
    "LC_ALL": "C.UTF-8",
}

# Name: what is typed. bidiffsr runs in this process, but for the sessions of IN_A_SHELL; all else is for a shell.
SESSIONS = {
    # upscale: what goes in and what comes out
    "upscale-png": "bidiffsr upscale photo.png",
    "upscale-x4-webp": "bidiffsr upscale photo.png big.webp --scale 4",
    "upscale-jpg": """
        bidiffsr upscale photo.jpg big.jpg --quality 80
        bidiffsr upscale photo.jpg kept.png --model photo
        bidiffsr upscale photo.jpg stripped.png --model photo --strip-metadata
    """,
    "upscale-tiff": "bidiffsr upscale photo.tiff big.tiff --seed 3",
    "upscale-avif": "bidiffsr upscale photo.png big.avif --no-provenance",
    "upscale-grey": """
        bidiffsr upscale grey.png
        bidiffsr upscale grey16.png
        bidiffsr upscale grey16.png big.jpg --quiet
        bidiffsr upscale grey16.png big.jpg --overwrite
    """,
    "upscale-alpha": """
        bidiffsr upscale clear.png
        bidiffsr upscale clear.png model.webp --alpha model
        bidiffsr upscale clear.png drop.png --alpha drop
        bidiffsr upscale clear.png big.jpg
    """,
    "upscale-pipe": """
        bidiffsr upscale - - < photo.png
        bidiffsr upscale - - --format jpg --quiet < photo.png
        bidiffsr upscale - big.png < words.png
        set -o pipefail; bidiffsr upscale photo.png - | true
    """,
    # upscale: the diffusion and the size
    "upscale-presets": """
        bidiffsr upscale photo.png faithful.png --preset faithful
        bidiffsr upscale photo.png best.png --preset best --seed 7
    """,
    "upscale-samplers": """
        bidiffsr upscale photo.png ddpm.png --steps 3 --sampler ddpm
        bidiffsr upscale photo.png dpmpp.png --steps 3 --sampler dpmpp-2m
        bidiffsr upscale photo.png eta.png --steps 3 --eta 0.5
        bidiffsr upscale photo.png cold.png --steps 1 --temperature 0.3
    """,
    "upscale-color-fix": "bidiffsr upscale photo.png big.png --color-fix lowfreq",
    "upscale-size": """
        bidiffsr upscale photo.png long.png --long-side 100
        bidiffsr upscale photo.png wide.png --width 50
        bidiffsr upscale photo.png exact.png --width 60 --height 60
    """,
    "upscale-tiles": """
        bidiffsr upscale photo.png tiles.png --tile 64 --tile-overlap 16
        bidiffsr upscale photo.png whole.png --tile off --max-memory 2GB
    """,
    # upscale: what is said
    "upscale-json": "bidiffsr upscale photo.png big.png --json --seed 7",
    "upscale-verbose": "bidiffsr upscale photo.png --verbose",
    "upscale-reports": """
        bidiffsr upscale photo.png 1.png --report run.json
        bidiffsr upscale photo.png 2.png --report run.csv
        bidiffsr upscale photo.png 3.png --report run.md
        bidiffsr upscale photo.png 4.png --report run.html
    """,
    "upscale-dry-run": """
        bidiffsr upscale photo.png --dry-run --long-side 100 --report run.json
        bidiffsr upscale photo.png --dry-run --json
        bidiffsr upscale photo.png grey.png --dry-run
    """,
    "upscale-auto": """
        bidiffsr upscale photo.jpg big.png --model auto
        bidiffsr upscale photo.png fine.jpg photo.jpg --model auto -o out/ --format same
    """,
    # upscale: several, and what is there already
    "upscale-several": """
        bidiffsr upscale photo.jpg photo.webp photo.tiff -o out/ --format same
        bidiffsr upscale photo.png photo.jpg grey.png
    """,
    "upscale-one-broken": """
        bidiffsr upscale photo.png cut.png grey.png
        bidiffsr upscale photo.png cut.png grey.png --json --overwrite
    """,
    "upscale-overwrite": """
        bidiffsr upscale photo.png big.png
        bidiffsr upscale photo.png big.png
        bidiffsr upscale grey.png big.png --overwrite
        bidiffsr upscale photo.png grey.png --overwrite
        bidiffsr upscale photo.png -o grey.png --overwrite
        bidiffsr upscale photo.png photo.png --overwrite
    """,
    "upscale-folder": "bidiffsr upscale in grey.png -o big",
    "upscale-model-file": "bidiffsr upscale photo.png --model fast.safetensors",
    "upscale-reference": "bidiffsr upscale photo.png --backend reference --json",
    # upscale: what is refused
    "upscale-input-refused": """
        bidiffsr upscale missing.png
        bidiffsr upscale cut.png
        bidiffsr upscale words.png
        bidiffsr upscale empty.png --json
        bidiffsr upscale photo.png missing.png grey.png
    """,
    "upscale-output-refused": """
        bidiffsr upscale photo.png big.gif
        bidiffsr upscale photo.png nowhere/big.png
        bidiffsr upscale photo.png photo.jpg/big.png
        bidiffsr upscale photo.png big.jpg --format png
        bidiffsr upscale photo.png --report run.txt
        bidiffsr upscale photo.png - --json
        bidiffsr upscale photo.png photo.jpg grey.png -o -
    """,
    "upscale-option-refused": """
        bidiffsr upscale photo.png --scale 3
        bidiffsr upscale photo.png --steps 0
        bidiffsr upscale photo.png --steps 2 --preset best
        bidiffsr upscale photo.png --preset nice
        bidiffsr upscale photo.png --sampler ddpm --eta 0.5
        bidiffsr upscale photo.png --temperature 2
        bidiffsr upscale photo.png --seed -1
        bidiffsr upscale photo.png --tile 33
        bidiffsr upscale photo.png --quality 0
        bidiffsr upscale photo.png --width 9 --long-side 9
        bidiffsr upscale photo.png --max-memory 800
        bidiffsr upscale photo.png --quiet --verbose
        bidiffsr upscale photo.png --colour
    """,
    "upscale-machine-refused": """
        bidiffsr upscale photo.png --device abacus
        bidiffsr upscale photo.png --device cuda:99
        bidiffsr upscale photo.png --threads 0
        bidiffsr upscale photo.png --backend native --precision fp16
        bidiffsr upscale photo.png --max-memory 1MB --json
    """,
    "upscale-model-refused": """
        bidiffsr upscale photo.png --model best-ever
        bidiffsr upscale photo.png --model photo.png
        bidiffsr upscale photo.png --model org/missing --offline --json
    """,
    # batch
    "batch-rerun": """
        bidiffsr batch in
        bidiffsr batch in
        rm in_x2/a.png
        bidiffsr batch in --json
        bidiffsr batch in --seed 1 --quiet
    """,
    "batch-process": "bidiffsr batch in -o out --scale 4 --recursive",
    "batch-broken": """
        bidiffsr batch broken -o out
        bidiffsr batch broken -o out --json --report run.csv
        bidiffsr batch broken -o other --fail-fast
    """,
    "batch-shards": """
        bidiffsr batch in -o out --recursive --shard 1/2
        bidiffsr batch in -o out --recursive --shard 2/2
        bidiffsr batch in -o out --recursive
    """,
    "batch-selection": """
        bidiffsr batch in -o out --recursive --exclude '*.jpg' --suffix _big --format webp
        bidiffsr batch in -o jpg --include '*.jpg' --format same
        bidiffsr batch in -o one --limit 1 --preset faithful
    """,
    "batch-folders": "bidiffsr batch in in/sub -o big --long-side 60 --report run.html",
    "batch-pictures": "bidiffsr batch in/a.bmp in/sub/c.bmp -o big --report run.md",
    "batch-dry-run": """
        bidiffsr batch in --dry-run
        bidiffsr batch in --dry-run --json
    """,
    "batch-foreign": """
        mkdir out
        cp grey.png out/a.png
        bidiffsr batch in -o out
        bidiffsr batch in -o out --overwrite
    """,
    "batch-auto": "bidiffsr batch in -o out --model auto --report run.json",
    "batch-refused": """
        bidiffsr batch missing
        bidiffsr batch in -o in
        bidiffsr batch in --include '*.gif'
        bidiffsr batch in --shard 3/2
        bidiffsr batch in --seed random
        bidiffsr batch in --ray-address auto
        bidiffsr batch in --device cpu,cpu
        bidiffsr batch in --jobs many
        bidiffsr batch in/a.bmp
        bidiffsr batch in --model best-ever --json
        bidiffsr batch in --report run.txt
    """,
    # eval
    "eval-steps": """
        bidiffsr eval --hr hr --steps 1,2 -o out
        bidiffsr eval --hr hr --steps 1,2 -o out --json
    """,
    "eval-degrade": "bidiffsr eval --hr hr --degrade blur=0.6,jpeg=85 --metrics psnr_y,lr_psnr --report run.csv",
    "eval-finished": """
        bidiffsr upscale lr/parrot.png lr/houses.png -o sr/
        bidiffsr eval --hr hr --sr sr --label other --report run.md --metrics psnr_y,ssim_y
    """,
    "eval-paper-row": "bidiffsr eval --hr hr --lr lr --name Set5 --paper-row -m bicubic",
    "eval-refused": """
        bidiffsr eval --hr missing
        bidiffsr eval --hr hr --metrics beauty
        bidiffsr eval --hr hr --steps 1,x
        bidiffsr eval --hr hr --degrade rain=1
        bidiffsr eval --hr hr --lr in
        bidiffsr eval --hr hr --lr lr --sr hr
        bidiffsr eval --hr hr --paper-row
        bidiffsr eval --hr hr -o in
        bidiffsr eval --hr hr -m best-ever --json
    """,
    # compare
    "compare": """
        bidiffsr compare photo.png photo.webp -o page.html
        bidiffsr compare coarse hr --reference hr --label one --label two -o scored.html --scale 2 --json
    """,
    "compare-refused": """
        bidiffsr compare photo.png -o page.html
        bidiffsr compare photo.png grey.png -o page.txt
        bidiffsr compare photo.png grey.png -o page.html --label one
        bidiffsr compare photo.png hr -o page.html
        bidiffsr compare photo.png cut.png -o page.html
        bidiffsr compare photo.png hr/parrot.png -o page.html
        bidiffsr compare hr in -o page.html --json
    """,
    # train
    "train": """
        bidiffsr train mine.toml --data hr --cache cache -o run --threads 1 --iterations 2 --validate hr
        bidiffsr train --resume -o run --cache cache --threads 1 --iterations 4 --json
        bidiffsr models pack run -o mine.safetensors --license CC0-1.0
        bidiffsr upscale photo.png --model mine.safetensors --backend reference
    """,
    "train-show": "bidiffsr train --show mine.toml --set optimizer.lr=1e-3",
    "train-refused": """
        bidiffsr train nothing
        bidiffsr train smoke --data missing --cache cache -o run
        bidiffsr train smoke --data hr --set data.bacth=4
        bidiffsr train smoke --data hr --iterations 2 --time-limit 2m
        bidiffsr train smoke --data hr --system no-such
        bidiffsr train --resume
        bidiffsr train smoke --resume -o run
        bidiffsr train smoke --data lr --cache cache -o run
        bidiffsr train smoke --data hr --cache cache -o run --max-file 1MB --json
    """,
    # bench, cost, doctor
    "bench": """
        bidiffsr bench --model tiny.safetensors --network model --only steps --repeats 1 --precision fp32
        bidiffsr bench --model tiny.safetensors --network model --only steps --repeats 1 --precision fp32 --json
        bidiffsr bench --model tiny.safetensors --network model --only steps --repeats 1 --precision fp32 --markdown
        bidiffsr bench --only kernels
        bidiffsr bench --json --markdown
    """,
    "cost": """
        bidiffsr cost
        bidiffsr cost reactnet --size 64 --json
        bidiffsr cost mine.toml
        bidiffsr cost no-such
        bidiffsr cost --all bnn
    """,
    "doctor": """
        bidiffsr doctor
        bidiffsr doctor --json
    """,
    # models
    "models-list": """
        bidiffsr models list
        bidiffsr models list --json
        bidiffsr models list --quiet
    """,
    "models-show": """
        bidiffsr models show
        bidiffsr models show photo --json
        bidiffsr models show best-ever
    """,
    "models-verify": """
        bidiffsr models verify
        bidiffsr models verify fast half.safetensors --json
        bidiffsr models path fast.safetensors
        bidiffsr models path org/missing
    """,
    "models-convert": """
        bidiffsr models convert tiny.safetensors -o tiny.pth
        bidiffsr models convert tiny_x2.pth -o new.safetensors --license Apache-2.0
        bidiffsr models convert tiny_x2.pth -o new.safetensors --json
        bidiffsr models convert photo.png -o new.pth
        bidiffsr models pack tiny.safetensors -o again.safetensors --json
        bidiffsr models pack in -o again.safetensors
    """,
    "models-hub": """
        bidiffsr models push me/mine -m photo --dry-run
        bidiffsr models push me/mine -m photo --json
        bidiffsr models pull org/repo --offline
        bidiffsr models pull org/repo
        bidiffsr models list
        bidiffsr upscale photo.png --model org/repo --steps 1
        bidiffsr models rm org/repo
        bidiffsr models rm org/repo
        bidiffsr models rm fast
    """,
    # all commands
    "usage": """
        bidiffsr --version
        bidiffsr enlarge photo.png
        bidiffsr models lend
    """,
}
COMMANDS = cache(typer.main.get_command)
"""Typer makes all commands of the annotations anew for each call, which takes longer than most of them."""
IN_A_SHELL = {"upscale-pipe", "batch-process"}
PICTURES = {".png", ".jpg", ".webp", ".avif", ".tiff"}
MEASURED = {"bench", "doctor", "train"}
"""Sessions in which no figure is the same on another machine, or the next time."""

PLACEHOLDERS = [
    # what a machine has
    (r"127\.0\.0\.1:\d+", "<hub>"),
    (r'[^\s"]*/weights/(?=\w+\.safetensors)', "<weights>/"),
    (r"(?<=^cache/)\w+", "<hash>"),
    (r"(?<=bidiffsr )\d+(?:\.[\w+]+)+", "<version>"),
    (r"torch \d[^<\n]*", "torch <version>, <machine>"),
    (r'("(?:bidiffsr|torch|python|platform|cpu)": ?)"[^"]*"', r'\1"<machine>"'),
    (r"(?m)^((?:- )?(?:machine|platform): ).*", r"\1<machine>"),
    # what a moment has
    (r"\d[\d.,]*(?= (?:s|ms|MB|GB|dB|MP/s|pictures/s|crops/s)\b)", "#"),
    (r'("(?:\w*seconds|\w+_per_second|\w*memory_bytes|host)": ?)\d[\d.e-]*', r"\1#"),
    (r'("(?:total|load_model|decode|sample|encode|per_step|picture)": ?)\d[\d.e-]*', r"\1#"),
    (r"(?m)^(  .*, \d steps? .* )\d+\.\d\d( +)\d+\.\d\d$", r"\1#\2#"),
    # what an encoder and a file system have
    (r'("bytes":)\d+(,"version":)"\d+"(,"sha256":)"\w+"', r'\1#\2"#"\3"#"'),
]
THREE_DIGITS = (r"(?<![\w.])(0\.0*[1-9]\d\d|[1-9]\.\d\d|[1-9]\d\.\d)\d+(?![\w.])", r"\1~")
"""Of a number that was computed in floating point; those behind may differ."""
MEASUREMENTS = [
    (r"(?m)^(  \S+(?: \S+)*  +).*", r"\1<...>"),  # rows of a table
    (r"(?m)^(- [\w ]+: ).*", r"\1<...>"),
    (r'("(?:found|started|device|sha256)": )"[^"]*"', r'\1"<...>"'),
    (r'("isas": )\[[^\]]*\]', r"\1<...>"),
    (r"-?\b\d+\.\d+(?:e[+-]\d+)?[x%]?", "#"),
]
MEASURED_COLUMNS = re.compile(
    r"s( ↓)?|s/step|s per step|seconds\w*|decode|sample|encode|peak.memory\w*|bidiffsr|torch|python|platform|cpu"
)


@pytest.mark.parametrize("name", SESSIONS)
def test_as_recorded(
    name: str, run: Run, hub: Hub, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(typer.main, "get_command", COMMANDS)
    folder = tmp_path / "here"
    shutil.copytree(inputs, folder, symlinks=True)
    monkeypatch.chdir(folder)
    for variable, value in MACHINE.items():
        monkeypatch.setenv(variable, value)
    hub.commit("org/repo", {"model.safetensors": Path("fast.safetensors").read_bytes()})

    told, before = list[str](), contents(folder)
    for line in SESSIONS[name].strip().splitlines():
        command = line.strip()
        typed = command.startswith("bidiffsr ") and name not in IN_A_SHELL
        finished = run(*shlex.split(command)[1:]) if typed else in_a_shell(command)
        after = contents(folder)
        told += [f"$ {command}", f"exit code {finished.code}"]
        texts = {"stdout": described("stdout", finished.out), "stderr": finished.err}
        texts |= {file: described(file, data) for file, data in after.items() if data != before.get(file)}
        texts |= dict.fromkeys(sorted(before.keys() - after), "is gone")
        for title, text in texts.items():
            measured = name in MEASURED and not title.endswith("config.json")
            title, text = (without_what_varies(part, tmp_path, measured) for part in (title, text))
            told += [f"{title}:", textwrap.indent(text.rstrip("\n"), "    ")] if text else []
        told.append("")
        before = after
    now = "\n".join(told)

    record = RECORDED / f"{name}.txt"
    if os.environ.get("BIDIFFSR_RECORD", "0") not in ("0", ""):
        record.write_text(now, encoding="utf-8")
    then = record.read_text(encoding="utf-8")
    if then != now:
        changed = difflib.unified_diff(then.splitlines(), now.splitlines(), record.name, "now", lineterm="")
        pytest.fail("\n".join(changed), pytrace=False)


def test_every_record_has_a_session() -> None:
    assert {path.stem for path in RECORDED.glob("*.txt")} == set(SESSIONS)


def in_a_shell(command: str) -> Finished:
    """Run a command as bash does; bidiffsr is a process of its own."""
    function = 'bidiffsr() { "$PYTHON" -m bidiffsr_cli "$@"; }; '
    variables = environment(PYTHON=sys.executable, **MACHINE)
    done = subprocess.run(["bash", "-c", function + command], env=variables, capture_output=True, timeout=60)
    return Finished(done.returncode, done.stdout, done.stderr.decode())


def contents(folder: Path) -> dict[str, bytes]:
    """Names and bytes of all files in a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def described(name: str, data: bytes) -> str:
    """What is in a file, or on stdout, in words."""
    suffix = Path(name).suffix
    if suffix in PICTURES:
        return described_picture(data)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return described_picture(data) if name == "stdout" else "binary"
    if suffix == ".html":
        text = seen(text)
    elif ".bidiffsr/" in name:  # threads write this journal, in any order
        text = "".join(sorted(text.splitlines(keepends=True)))
    return without_measured_columns(text, "," if suffix == ".csv" else "|")


def described_picture(data: bytes) -> str:
    """Format, mode, size, a hash of the pixels, and what is said of the picture beside them.

    The hash is left out where torch computed the pixels, and for AVIF, whose encoders are free in what they do.
    """
    image = decoded(data)
    exif = image.getexif()
    provenance = re.search(rb'{"software".*?}', data)
    words = provenance.group().decode() if provenance else "without provenance"
    told = [f"{image.format} {image.mode} {image.width}x{image.height}"]
    if image.format != "AVIF" and '"reference"' not in words:
        told.append(f"pixels {hashlib.sha256(image.tobytes()).hexdigest()[:16]}")
    told += [f"{tag.name} {exif[tag]}" for tag in (ExifTags.Base.Orientation, ExifTags.Base.Artist) if tag in exif]
    told += [f"dpi {image.info['dpi'][0]:.0f}"] if "dpi" in image.info else []
    return f"{', '.join(told)}\n{words}"


def seen(page: str) -> str:
    """What a browser shows of a page, and the hashes of its style and script, which the page states itself."""
    policy = "".join(re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)"', page))
    page = re.sub(r"(?s)<(style|script)\b.*?</\1>", "", page)
    page = re.sub(r"</t[hd]><t[hd][^>]*>", " | ", page)
    page = re.sub(r"</?b>", "", page.replace("</dt><dd>", ": "))
    page = re.sub(r"<img[^>]*>", "[picture] ", page)
    lines = (line.strip() for line in re.sub(r"<[^>]*>", " ", page).splitlines())
    return "\n".join([policy, *filter(None, lines)])


def without_what_varies(text: str, tmp_path: Path, measured: bool) -> str:
    """A text with placeholders for what is otherwise in another run or on another machine."""
    text = text.replace(str(tmp_path), "<tmp>")
    for pattern, placeholder in [*PLACEHOLDERS, *(MEASUREMENTS if measured else []), THREE_DIGITS]:
        text = re.sub(pattern, placeholder, text)
    return text


def without_measured_columns(table: str, separator: str) -> str:
    """Tables without what is in their `MEASURED_COLUMNS`; other lines stay."""
    lines, measured = list[str](), list[bool]()
    for line in table.split("\n"):
        cells = line.split(separator)
        if len(cells) == len(measured):
            cells = [
                re.sub(r"\w.*\w|\w", "#", cell) if hide else cell for cell, hide in zip(cells, measured, strict=True)
            ]
        else:  # the first line of a table
            measured = [bool(MEASURED_COLUMNS.fullmatch(cell.strip())) for cell in cells]
        lines.append(separator.join(cells))
    return "\n".join(lines)


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures and models that every session begins with."""
    folder = tmp_path_factory.mktemp("inputs")
    for name in ("in/sub", "broken", "hr", "coarse", "lr"):
        (folder / name).mkdir(parents=True)

    photo, grey = part_of("parrot", 40, 28), part_of("parrot", 40, 28).convert("L")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Artist] = 6, "Somebody"
    photo.save(folder / "photo.jpg", quality=60, exif=exif, dpi=(300, 300))
    photo.save(folder / "fine.jpg", quality=95)
    photo.save(folder / "photo.webp", lossless=True)
    for name in ("photo.png", "photo.tiff", "in/a.bmp"):
        photo.save(folder / name)
    for name in ("grey.png", "in/sub/c.bmp", "broken/1.bmp", "broken/2.bmp"):
        grey.save(folder / name)
    Image.frombytes("I;16", (24, 16), bytes(7 * index % 256 for index in range(2 * 24 * 16))).save(
        folder / "grey16.png"
    )
    photo.putalpha(Image.linear_gradient("L").crop((60, 60, 100, 88)).point(lambda level: max(0, 3 * level - 200)))
    photo.save(folder / "clear.png")
    shutil.copy(folder / "photo.jpg", folder / "in" / "b.jpg")

    for name in ("parrot", "houses"):
        original = part_of(name, 64, 64)
        original.save(folder / "hr" / f"{name}.png")
        original.point(lambda level: level // 16 * 16).save(folder / "coarse" / f"{name}.png")
        original.reduce(2).save(folder / "lr" / f"{name}.png")

    whole, tiny = (folder / "photo.png").read_bytes(), tiny_checkpoint()
    for name, data in {
        "cut.png": whole[: len(whole) // 2],
        "broken/0.png": whole[: len(whole) // 2],
        "words.png": b"no picture\n",
        "in/notes.txt": b"no picture\n",
        "empty.png": b"",
        "tiny.safetensors": tiny,
        "half.safetensors": tiny[: len(tiny) // 2],
        "mine.toml": SMALLEST.encode(),
    }.items():
        (folder / name).write_bytes(data)
    (folder / "fast.safetensors").symlink_to(TESTS.parent / "weights" / "fast.safetensors")
    (folder / "tiny_x2.pth").symlink_to(TESTS / "golden" / "tiny_official_format.pth")
    for path in folder.rglob("*.*"):
        os.utime(path, (1.7e9, 1.7e9), follow_symlinks=False)  # the journal of a batch knows pictures by their times
    return folder


def part_of(name: str, width: int, height: int) -> Image.Image:
    """A part of one of the test pictures, in RGB."""
    with Image.open(TESTS / "pictures" / f"{name}.png") as image:
        return image.convert("RGB").crop((96, 80, 96 + width, 80 + height))


SMALLEST = """\
preset = "smoke"

[model]
network = { inner_channel = 4, channel_mults = [1, 2], res_blocks = 1, norm_groups = 1, full_precision_levels = [0] }
tile = { size = 64, overlap = 8 }

[data]
crop = 32
batch = 4

[loss]
rollout = { comb = 0.0, cross = 0.0 }

[run]
log_every = 2
"""
