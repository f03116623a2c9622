"""What the commands do, from plain Python: `python example.py FOLDER`, where the folder has photos/ in it."""

import sys
from pathlib import Path

import bidiffsr_cli
from bidiffsr_cli import Machine, Selection, UpscaleOptions, Writing

folder = Path(sys.argv[1])
photo = next((folder / "photos").iterdir())

enlarged = bidiffsr_cli.upscale(photo, folder / "big.jpg", writing=Writing(quality=90))
print("upscale", enlarged.images[0]["output_size"], f"{enlarged.images[0]['seconds']['total'] > 0}")

done = bidiffsr_cli.batch(
    [folder / "photos"],
    folder / "big",
    options=UpscaleOptions(scale=4, seed=7),
    selection=Selection(recursive=True, exclude=["*.gif"]),
    machine=Machine(threads=1),
)
print("batch", done.status, done.counts)

evaluation = bidiffsr_cli.evaluate(folder / "photos", steps=(1, 2), metrics=["psnr_y"])
print("evaluate", {summary.label: summary.count for summary in evaluation.summaries})

comparison = bidiffsr_cli.compare([photo, photo], folder / "page.html", labels=["one", "two"])
print("compare", comparison.versions)

trained = bidiffsr_cli.train(
    "smoke",
    data=photo,
    output=folder / "run",
    cache=folder / "cache",
    iterations=1,
    changes=["data.crop=32", "data.batch=1", "loss.lpips=0.0", "loss.rollout={share=0.0}"],
    machine=Machine("cpu", threads=1),
)
print("train", trained.done, (trained.folder / "model.safetensors").is_file())
