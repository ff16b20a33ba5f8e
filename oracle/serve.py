"""Serve an ensemble of two fastai learners behind a plain FastAPI app: python serve.py FOLDER PORT THREADS.

Run with the oracle's python. As deployments of fastai models do it: one process, learners loaded at the start,
`predict` of each text within an async handler, so requests are answered one after the other (learners are not safe to
use from several threads).
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

from speed import DIRECTIONS, single


def main(folder: Path, port: int, threads: int) -> None:
    """Serve FOLDER/{forward,backward}.pkl at 127.0.0.1."""
    import torch
    import uvicorn
    from fastai.text.all import load_learner
    from fastapi import FastAPI
    from pydantic import BaseModel

    torch.set_num_threads(threads)
    learners = [load_learner(folder / f"{direction}.pkl") for direction in DIRECTIONS]
    app = FastAPI()

    class Item(BaseModel):
        text: str

    async def predict(item: Item) -> dict[str, list[float]]:
        return {"probabilities": single(learners, item.text)}

    predict.__annotations__ = {"item": Item, "return": dict[str, list[float]]}  # FastAPI can't look into this function
    app.post("/predict")(predict)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]), int(sys.argv[3]))
