"""Classify texts with the real client libraries of the server's protocols, and print their results as JSON.

Run: .clients/bin/python clients/ask.py URL TEXT... (``make .clients/.complete`` creates the environment)
"""

from __future__ import annotations

import json
import sys
import urllib.request

import numpy as np
import pandas as pd
import tritonclient.http as triton
from huggingface_hub import InferenceClient
from mlflow.pyfunc.scoring_server.client import ScoringServerClient


def main(url: str, texts: list[str]) -> None:
    """Send the texts with each client and print the results."""
    hugging_face = InferenceClient(model=url)
    found = {
        "huggingface_hub": [scores(hugging_face.text_classification(text)) for text in texts],
        "huggingface_hub, top_k": [scores(hugging_face.text_classification(text, top_k=1)) for text in texts],
    }
    client = triton.InferenceServerClient(url.removeprefix("http://"))
    assert client.is_server_live()
    assert client.is_server_ready()
    name = json.load(urllib.request.urlopen(f"{url}/v1/models"))["models"][0]["name"]
    assert client.is_model_ready(name)
    assert client.get_model_metadata(name)["inputs"][0]["datatype"] == "BYTES"
    for is_binary in (False, True):
        tensor = triton.InferInput("text", [len(texts)], "BYTES")
        tensor.set_data_from_numpy(np.array([text.encode() for text in texts], dtype=np.object_), binary_data=is_binary)
        names = ("label", "probabilities", "forward", "backward")
        outputs = [triton.InferRequestedOutput(output, binary_data=is_binary) for output in names]
        result = client.infer(name, [tensor], outputs=outputs, request_id="7")
        assert result.get_response()["id"] == "7"
        rows = {output: result.as_numpy(output).tolist() for output in names}
        rows["label"] = [label.decode() if isinstance(label, bytes) else label for label in rows["label"]]
        found[f"tritonclient, {'binary' if is_binary else 'JSON'}"] = rows
    mlflow = ScoringServerClient(*url.removeprefix("http://").split(":"))
    mlflow.ping()
    predictions = mlflow.invoke(pd.DataFrame({"text": texts})).get_predictions()
    found["mlflow"] = predictions[["label", "score"]].to_numpy().tolist()
    print(json.dumps(found))


def scores(elements: list) -> list:
    """Return label and score of each element."""
    return [[element.label, element.score] for element in elements]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
