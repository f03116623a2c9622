"""Crops for training: what the network sees there is what it sees when it enlarges."""

import dataclasses

import pytest
import torch
from PIL import Image

from bidiffsr_cli.diffusion.conditioning import condition
from bidiffsr_cli.diffusion.detail import noise_gain, residual_gain
from bidiffsr_cli.diffusion.upsampling import Enlarged
from bidiffsr_cli.errors import CheckpointError, InputError, UsageError
from bidiffsr_cli.images.degrading import shrunk
from bidiffsr_cli.images.resizing import downscale_bicubic
from bidiffsr_cli.training import degradations
from bidiffsr_cli.training.config import KINDS, DataConfig
from bidiffsr_cli.training.config_files import changed
from bidiffsr_cli.training.crops import CropSampler
from bidiffsr_cli.training.dataset import open_dataset
from bidiffsr_cli.training.degradations import COMPRESSED, SOMETIMES, degrade
from bidiffsr_cli.training.synthetic import OF_EACH_KIND, synthetic_pictures

from .support import CPU, generator


def fail(*_):
    pytest.fail("decoded again")


def place_of(crop, pictures):
    """(picture, top, left) of a crop, found by its pixels, in any of eight orientations; and how it is turned."""
    for index, item in enumerate(pictures.pictures):
        whole = pixels_of(pictures, item)
        for flips in range(8):
            dims = [dim for dim, bit in ((1, 1), (2, 2)) if flips & bit]
            turned = crop.transpose(1, 2) if flips & 4 else crop
            turned = turned.flip(dims)
            windows = whole.unfold(1, turned.shape[1], 1).unfold(2, turned.shape[2], 1)
            alike = (windows[..., ::8, ::8] == turned[:, None, None, ::8, ::8]).all(-1).all(-1).all(0)
            for top, left in alike.nonzero().tolist():
                if torch.equal(windows[:, top, left], turned):
                    return index, top, left, flips
    raise AssertionError("the crop is in no picture")


def pixels_of(pictures, item):
    first = item.offset // 3
    flat = pictures.pixels[first : first + item.height * item.width]
    return flat.view(item.height, item.width, 3).permute(2, 0, 1)


@pytest.fixture(scope="module")
def with_synthetic(config, tmp_path_factory):
    """The photos, and the pictures that are made in code, small ones of all scales."""
    data = dataclasses.replace(config.data, synthetic={"flats": 1.0})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bidiffsr_cli.training.synthetic.OF_EACH_KIND", 6)
        return open_dataset(data, (2, 3, 4), tmp_path_factory.mktemp("synthetic"))


@pytest.mark.parametrize("scale", [2, 4])
def test_a_crop_is_seen_as_when_enlarging(config, pictures, scale):
    config = changed(config, ["model.diffusion.noise_by_detail=0.03", "model.diffusion.residual_by_detail=0.01"])
    batch = CropSampler(pictures, config, CPU).draw(scale, generator())
    assert batch.hr.shape == batch.up.shape == (4, 3, 32, 32) and batch.condition.shape == (4, 6, 32, 32)
    orientations = set()
    for index in range(4):
        crop = (batch.hr[index] * 255).round().to(torch.uint8)
        which, top, left, flips = place_of(crop, pictures)
        orientations.add(flips)
        assert top % scale == left % scale == 0
        whole = pixels_of(pictures, pictures.pictures[which])
        low_res = downscale_bicubic(whole, scale) / 255
        up = Enlarged(low_res, scale, *whole.shape[1:], config.model.diffusion)
        dims = [dim for dim, bit in ((1, 1), (2, 2)) if flips & bit]
        seen = batch.condition[index].transpose(1, 2) if flips & 4 else batch.condition[index]
        window = up.around(top, left, 32, 32), scale, config.model.diffusion
        expected = condition(*window)
        # beyond the picture's edge, repeated small pixels stand where repeated large ones do: a little detail differs
        at_edge = min(top, left, whole.shape[1] - top - 32, whole.shape[2] - left - 32) < 16
        torch.testing.assert_close(seen.flip(dims)[:3], expected[:3], atol=2e-5, rtol=0)
        if not at_edge:
            torch.testing.assert_close(seen.flip(dims), expected, atol=2e-4, rtol=0)
            for theirs, gain in ((batch.noise_gain, noise_gain), (batch.residual_gain, residual_gain)):
                ours = theirs[index].transpose(1, 2) if flips & 4 else theirs[index]
                torch.testing.assert_close(ours.flip(dims), gain(*window), atol=5e-3, rtol=0)


def test_orientations_and_places_vary(pictures, sampler):
    crops = [sampler.draw(2, generator(seed)).hr for seed in range(8)]
    places = [place_of((crop[0] * 255).round().to(torch.uint8), pictures) for crop in crops]
    assert len({flips for *_, flips in places}) > 2 and len({place[:3] for place in places}) == 8


def test_the_same_generator_gives_the_same_crops(sampler):
    one, two = sampler.draw(4, generator(3)), sampler.draw(4, generator(3))
    assert torch.equal(one.hr, two.hr) and torch.equal(one.condition, two.condition)


def test_candidates_have_more_detail(pictures, config):
    def detail(candidates):
        data = dataclasses.replace(config.data, candidates=candidates, batch=32)
        sampler = CropSampler(pictures, dataclasses.replace(config, data=data), CPU)
        batch = sampler.draw(2, generator())
        return (batch.hr - batch.up).square().mean()

    assert detail(4) > 1.2 * detail(1)


def test_pictures_are_decoded_once(config, folder, tmp_path, monkeypatch):
    told = []
    first = open_dataset(config.data, (2, 4), tmp_path, lambda done, count: told.append((done, count)))
    assert told == [(0, 3), (1, 3), (2, 3)] and len(first.pictures) == 3 and not first.skipped
    second = open_dataset(config.data, (2, 4), tmp_path, fail)
    assert torch.equal(first.pixels, second.pixels) and first.sha256 == second.sha256
    monkeypatch.setattr("bidiffsr_cli.training.synthetic.OF_EACH_KIND", 1)
    more = open_dataset(dataclasses.replace(config.data, synthetic={"text": 1.0}), (2, 4), tmp_path)
    assert len(more.pictures) == 3 + len(KINDS)
    assert open_dataset(config.data, (2, 4), tmp_path, fail).pictures == first.pictures
    assert [path.name for path in tmp_path.iterdir() if "." in path.name] == []  # nothing half-made is left


def test_damaged_and_small_files_are_skipped(folder, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    data = (folder / "parrot.png").read_bytes()
    (photos / "whole.png").write_bytes(data)
    (photos / "cut.png").write_bytes(data[: len(data) // 2])
    (photos / "text.jpg").write_text("no picture")
    Image.new("RGB", (20, 300)).save(photos / "narrow.png")
    (photos / "lost.png").symlink_to("nowhere.png")
    pictures = open_dataset(DataConfig(pictures=(str(photos),), crop=32), (2,), tmp_path / "cache")
    assert [item.name for item in pictures.pictures] == ["whole.png"]
    assert set(pictures.skipped) == {"cut.png", "text.jpg", "narrow.png", "lost.png"} and all(pictures.skipped.values())
    assert "crop" in pictures.skipped["narrow.png"]
    smaller = open_dataset(DataConfig(pictures=(str(photos),), crop=16), (2,), tmp_path / "cache", fail)
    assert [item.name for item in smaller.pictures] == ["narrow.png", "whole.png"]


def test_a_cut_cache_is_made_again(config, tmp_path):
    first = open_dataset(config.data, (2, 4), tmp_path)
    (folder,) = tmp_path.iterdir()
    expected = first.pixels.clone()
    for name, data in (("pixels", (folder / "pixels").read_bytes()[:1000]), ("index.json", b"{")):
        (folder / name).unlink()
        (folder / name).write_bytes(data)
        assert torch.equal(open_dataset(config.data, (2, 4), tmp_path).pixels, expected)


def test_pairs_are_found_by_name(folder, tmp_path):
    small = tmp_path / "X2"
    small.mkdir()
    for path in folder.iterdir():
        Image.open(path).resize((60, 48), Image.Resampling.BOX).save(small / f"{path.stem}x2.png")
    config = DataConfig(pictures=(str(folder),), low_res={"2": str(small)}, crop=32)
    pictures = open_dataset(config, (2,), tmp_path / "cache")
    item = pictures.pictures[0]
    first = item.small["2"] // 3
    stored = pictures.pixels[first : first + 60 * 48].flatten()
    with Image.open(small / f"{item.name.removesuffix('.png')}x2.png") as image:
        assert bytes(stored.tolist()) == image.tobytes()
    Image.new("RGB", (61, 49)).save(small / "parrotx2.png")
    assert "parrot.png" in open_dataset(config, (2,), tmp_path / "cache").skipped
    (small / "parrotx2.png").unlink()
    with pytest.raises(InputError, match=r"parrot\.png"):
        open_dataset(config, (2,), tmp_path / "cache")


def test_a_small_picture_belongs_to_one_original(folder, tmp_path):
    for name in ("A", "B"):
        (tmp_path / name).mkdir()
        Image.open(folder / "parrot.png").save(tmp_path / name / "1.png")
    (tmp_path / "X2").mkdir()
    Image.new("RGB", (60, 48)).save(tmp_path / "X2" / "1x2.png")
    config = DataConfig(pictures=(str(tmp_path / "A"), str(tmp_path / "B")), low_res={"2": str(tmp_path / "X2")})
    with pytest.raises(InputError, match=r"1\.png"):
        open_dataset(config, (2,), tmp_path / "cache")


def test_nothing_to_train_on(tmp_path):
    with pytest.raises(UsageError):
        open_dataset(DataConfig(), (2,), tmp_path)
    with pytest.raises(InputError):
        open_dataset(DataConfig(pictures=(str(tmp_path / "missing"),)), (2,), tmp_path)
    with pytest.raises(InputError):
        (tmp_path / "empty").mkdir()
        open_dataset(DataConfig(pictures=(str(tmp_path / "empty"),)), (2,), tmp_path / "cache")


ALL = {"blur": 2.0, "noise": 20.0, "chroma_blur": 2.0, "sharpen": 1.0, "jpeg": 20, "webp": 10}


@pytest.mark.parametrize("fields", [*({name: value} for name, value in ALL.items()), ALL])
def test_degradations(fields):
    x = (torch.rand(16, 3, 24, 20) * 255).round() / 255
    config = dataclasses.replace(DataConfig(), **fields)
    assert config.degrades and not DataConfig().degrades
    one, two = degrade(x, None, 2, config, generator(1)), degrade(x, None, 2, config, generator(1))
    assert torch.equal(one, two) and one.shape == x.shape and one.min() >= 0 and one.max() <= 1
    torch.testing.assert_close((one * 255).round() / 255, one)
    touched = (one != x).flatten(1).any(1)
    assert int(touched.sum()) >= 4 and (len(fields) > 1 or not bool(touched.all()))
    assert (degrade(x, None, 2, config, generator(2)) != one).any()
    assert torch.equal(degrade(x, None, 2, dataclasses.replace(config, clean=1.0), generator(1)), x)


def test_a_share_stays_clean():
    x = (torch.rand(400, 3, 8, 8) * 255).round() / 255
    config = DataConfig(clean=0.3, noise=20.0, jpeg=50)
    same = (degrade(x, None, 2, config, generator(1)) == x).flatten(1).all(1).float().mean()
    assert abs(float(same) - (0.3 + 0.7 * (1 - SOMETIMES) * (1 - COMPRESSED))) < 0.06


@pytest.mark.parametrize(
    ("jpeg", "webp", "formats"), [(50, 100, {"JPEG"}), (100, 50, {"WEBP"}), (50, 50, {"JPEG", "WEBP"})]
)
def test_a_quality_of_100_leaves_a_format_out(jpeg, webp, formats, monkeypatch):
    seen = set()

    def compressed(picture, quality, *, format, **_):
        seen.add(format)
        return picture

    monkeypatch.setattr(degradations, "compressed", compressed)
    degrade(torch.rand(64, 3, 8, 8), None, 2, DataConfig(clean=0.0, jpeg=jpeg, webp=webp), generator(1))
    assert seen == formats


def test_kernels_have_their_shares():
    hr = torch.rand(300, 3, 16, 16)
    config = DataConfig(kernels={"lanczos": 0.2, "area": 0.5})
    small = torch.zeros(300, 3, 8, 8)
    made = degrade(small, hr, 2, config, generator(1))
    for kernel, share in {"lanczos": 0.2, "bilinear": 0.0, "area": 0.5}.items():
        theirs = shrunk(hr, 2, kernel).clamp(0, 1).mul(255).round().div(255)
        assert abs(float((made == theirs).flatten(1).all(1).float().mean()) - share) < 0.08
    assert abs(float((made == small).flatten(1).all(1).float().mean()) - 0.3) < 0.08
    for wrong in ({"sinc": 0.5}, {"lanczos": -0.1}, {"lanczos": 0.6, "area": 0.6}):
        with pytest.raises(CheckpointError, match="kernels"):
            DataConfig(kernels=wrong)


@pytest.mark.parametrize("scale", [2, 4])
def test_degraded_crops_are_the_same_places(pictures, config, scale):
    def draw(**changes):
        data = dataclasses.replace(config.data, batch=32, candidates=2, **changes)
        sampler = CropSampler(pictures, dataclasses.replace(config, data=data), CPU)
        return sampler.draw(scale, generator())

    clean, other = draw(), draw(kernels={"lanczos": 0.4, "bilinear": 0.3, "area": 0.3})
    assert torch.equal(clean.hr, other.hr)
    off = (clean.up - other.up).square().mean()
    assert 0 < off < 0.05 * (clean.up - clean.up.mean((2, 3), keepdim=True)).square().mean()
    touched = draw(clean=1.0, jpeg=50)
    torch.testing.assert_close(touched.up, clean.up)
    torch.testing.assert_close(touched.condition, clean.condition)


def test_plain_crops_are_taken_as_they_come(pictures, config):
    def detail(plain):
        data = dataclasses.replace(config.data, candidates=4, batch=64, plain=plain)
        batch = CropSampler(pictures, dataclasses.replace(config, data=data), CPU).draw(2, generator())
        return float((batch.hr - batch.up).square().mean())

    assert detail(0.0) > 1.1 * detail(0.5) > 1.2 * detail(1.0)


def test_synthetic_pictures_have_their_share(config, pictures, with_synthetic):
    made = [item for item in with_synthetic.pictures if item.synthetic]
    assert len(with_synthetic.pictures) - len(made) == 3 and len(made) == len(KINDS) * 6
    side = made[0].height
    assert side == 516  # which all scales divide
    for item, (kind, index, picture) in zip(made[:5], synthetic_pictures(side), strict=False):
        assert item.name == f"{kind} {index}" and torch.equal(pixels_of(with_synthetic, item), picture)
        first, small = item.small["4"] // 3, side // 4
        stored = with_synthetic.pixels[first : first + small * small].view(small, small, 3).permute(2, 0, 1)
        assert torch.equal(stored, downscale_bicubic(picture, 4))

    def crops_of(**shares):
        data = dataclasses.replace(config.data, synthetic=shares, batch=64)
        sampler = CropSampler(with_synthetic, dataclasses.replace(config, data=data), CPU)
        return torch.cat([sampler.draw(2, generator(seed)).hr for seed in range(8)])

    def uniform(crops):
        return float((crops.flatten(2).std(-1).amax(1) == 0).float().mean())

    of_flats, everything = uniform(crops_of(flats=1.0)), uniform(crops_of(flats=0.3, text=0.1))
    assert of_flats > 0.7 and abs(everything - 0.3 * of_flats) < 0.07
    assert uniform(crops_of()) == uniform(crops_of(flats=0.0)) == 0
    assert [i.name for i in pictures.pictures] == [i.name for i in with_synthetic.pictures if not i.synthetic]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_synthetic_crops_are_seen_as_when_enlarging(config, with_synthetic, scale):
    data = dataclasses.replace(config.data, synthetic={"flats": 1.0}, crop=96, batch=32)
    diffusion = dataclasses.replace(config.model.diffusion, residual_scale={str(scale): 0.05})
    model = dataclasses.replace(config.model, diffusion=diffusion, scales=(scale,))
    sampler = CropSampler(with_synthetic, dataclasses.replace(config, data=data, model=model), CPU)
    batch = sampler.draw(scale, generator())
    spread = (batch.hr - batch.hr.mean((2, 3), keepdim=True)).square().mean()
    assert (batch.hr - batch.up).square().mean() < 0.1 * spread  # the same places, only blurred


def test_synthetic_pictures_are_the_same_every_time():
    one, two = list(synthetic_pictures(128)), list(synthetic_pictures(128))
    assert [kind for kind, *_ in one[:4]] == list(KINDS) and len(one) == len(KINDS) * OF_EACH_KIND
    for (_, _, picture), (_, _, again) in zip(one, two, strict=True):
        assert torch.equal(picture, again) and picture.shape == (3, 128, 128) and picture.dtype == torch.uint8
    assert len({bytes(picture.flatten().tolist()) for *_, picture in one}) > len(one) - 8


def test_pictures_made_in_code_are_not_enough(tmp_path, monkeypatch):
    monkeypatch.setattr("bidiffsr_cli.training.synthetic.OF_EACH_KIND", 1)
    (tmp_path / "small").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "small" / "a.png")
    with pytest.raises(InputError, match="smaller"):
        open_dataset(DataConfig(pictures=(str(tmp_path / "small"),), synthetic={"text": 0.5}), (2,), tmp_path / "cache")
