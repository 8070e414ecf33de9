"""Lets the Open Inference Protocol's own client library talk to the fake model server.

The library is generated from the protocol's published schema and refuses answers
that do not fit it. In an environment of its own:

    python3 -m venv /tmp/oip && /tmp/oip/bin/pip install open-inference-openapi==2.0.0.1
    weir fakemodel --listen 127.0.0.1:8500 &
    /tmp/oip/bin/python oip_client.py http://127.0.0.1:8500
"""

import sys

from open_inference.openapi.client import OpenInferenceClient
from open_inference.openapi.errors import BadRequestError
from open_inference.openapi.types import InferenceRequest, RequestInput, RequestOutput, TensorData


def request(data, **fields):
    tensor = RequestInput(name="x", shape=[2, 2], datatype="FP64", data=TensorData(__root__=data))
    return InferenceRequest(inputs=[tensor], **fields)


def main(url):
    client = OpenInferenceClient(base_url=url)
    client.check_server_liveness()
    client.check_server_readiness()
    client.check_model_readiness("m")
    client.check_model_version_readiness("m", "1")
    assert client.read_server_metadata().extensions == []
    metadata = client.read_model_metadata("m")
    assert metadata.versions == ["1"] and metadata.outputs[0].name == "score", metadata
    assert client.read_model_version_metadata("m", "7").versions == ["7"]

    flat = client.model_infer("m", request=request([1, 2, 3, 4], id="42", outputs=[RequestOutput(name="score")]))
    assert flat.id == "42" and flat.model_name == "m" and flat.model_version == "1", flat
    output = flat.outputs[0]
    assert output.datatype == "FP64" and output.shape == [2], output
    scores = output.data.__root__
    assert len(scores) == 2 and all(0 <= s < 1 for s in scores), scores
    nested = client.model_version_infer("m", "1", request=request([[1, 2], [3, 4]]))
    assert nested.outputs[0].data.__root__ == scores, nested

    try:
        client.model_infer("m", request=request([1, 2, 3]))
        raise AssertionError("too few elements are no error")
    except BadRequestError as e:
        assert "3 elements" in e.body["error"], e.body
    print("ok")


main(sys.argv[1])
