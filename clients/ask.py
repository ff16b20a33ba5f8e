"""Classify texts with the real client libraries of the server's protocols, and print their results as JSON.

Run: .clients/bin/python clients/ask.py URL GRPC_PORT MODEL TEXT...
``make .clients/.complete`` creates the environment.
"""

from __future__ import annotations

import json
import queue
import sys
from types import ModuleType

import numpy as np
import pandas as pd
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from huggingface_hub import InferenceClient
from mlflow.pyfunc.scoring_server.client import ScoringServerClient


def main(url: str, grpc_port: str, name: str, texts: list[str]) -> None:
    """Send the texts with each client and print the results."""
    address = url.removeprefix("http://")
    host, port = address.split(":")
    hugging_face, one = InferenceClient(model=url), InferenceClient(model=f"{url}/models/{name}")
    found = {
        "huggingface_hub": [scores(hugging_face.text_classification(text)) for text in texts],
        "huggingface_hub, top_k": [scores(hugging_face.text_classification(text, top_k=1)) for text in texts],
        "huggingface_hub, by name": [scores(one.text_classification(text)) for text in texts],
    }
    client = triton_http.InferenceServerClient(address)
    assert client.get_model_repository_index()[0]["state"] == "READY"
    assert client.get_model_config(name)["name"] == name
    assert client.get_inference_statistics(name)["model_stats"][0]["inference_count"] > 0
    for is_binary in (False, True):
        kind = "binary" if is_binary else "JSON"
        found[f"tritonclient, {kind}"] = ask_triton(triton_http, client, name, texts, binary_data=is_binary)
    over_grpc = triton_grpc.InferenceServerClient(f"{host}:{grpc_port}")
    found["tritonclient, gRPC"] = ask_triton(triton_grpc, over_grpc, name, texts)
    found["tritonclient, stream"] = ask_stream(over_grpc, name, texts)
    mlflow = ScoringServerClient(host, port)
    mlflow.ping()
    predictions = mlflow.invoke(pd.DataFrame({"text": texts})).get_predictions()
    found["mlflow"] = predictions[["label", "score"]].to_numpy().tolist()
    best = mlflow.invoke(pd.DataFrame({"text": texts}), params={"top_k": 1}).get_predictions()
    found["mlflow, params"] = [[row[0]["label"], row[0]["score"]] for row in best["top"]]
    print(json.dumps(found))


def ask_triton(library: ModuleType, client: object, name: str, texts: list[str], **options: bool) -> dict[str, list]:
    """Return the outputs of a model by name, and its most probable label as Triton's classification extension."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(name)
    metadata = client.get_model_metadata(name)
    inputs = metadata["inputs"] if isinstance(metadata, dict) else metadata.inputs
    assert "BYTES" in str(inputs[0])
    tensor = library.InferInput("text", [len(texts)], "BYTES")
    tensor.set_data_from_numpy(np.array([text.encode() for text in texts], dtype=np.object_), **options)
    names = ("label", "probabilities", "forward", "backward")
    outputs = [library.InferRequestedOutput(output, **options) for output in names]
    result = client.infer(name, [tensor], outputs=outputs, request_id="7")
    response = result.get_response()
    assert (response["id"] if isinstance(response, dict) else response.id) == "7"
    rows = {output: result.as_numpy(output).tolist() for output in names}
    rows["label"] = list(map(decoded, rows["label"]))
    best = library.InferRequestedOutput("probabilities", class_count=1, **options)
    result = client.infer(name, [tensor], outputs=[best]).as_numpy("probabilities").ravel().tolist()
    rows["classification"] = [decoded(each).split(":")[2] for each in result]
    return rows


def ask_stream(client: triton_grpc.InferenceServerClient, name: str, texts: list[str]) -> list:
    """Return the label of each text, sent as a stream of requests, and the message of a request that is refused."""
    replies: queue.Queue = queue.Queue()
    client.start_stream(callback=lambda result, error: replies.put((result, error)))
    for number, text in enumerate([*texts, ""]):
        tensor = triton_grpc.InferInput("text" if number < len(texts) else "unknown", [1], "BYTES")
        tensor.set_data_from_numpy(np.array([text.encode()], dtype=np.object_))
        client.async_stream_infer(name, [tensor], request_id=str(number))
    received = [replies.get(timeout=60) for _ in range(len(texts) + 1)]
    client.stop_stream()
    *good, (_, error) = received
    assert [result.get_response().id for result, _ in good] == [str(number) for number in range(len(texts))]
    return [*(decoded(result.as_numpy("label")[0]) for result, _ in good), error.message()]


def decoded(value: bytes | str) -> str:
    """Return an element of a tensor of type BYTES as text."""
    return value.decode() if isinstance(value, bytes) else value


def scores(elements: list) -> list:
    """Return label and score of each element."""
    return [[element.label, element.score] for element in elements]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
