"""A click as Label Studio sends it, and the brush that it gets, read by Label Studio's own library.

label_studio.py URL IMAGE
"""

import base64
import pathlib
import sys

import numpy as np
import requests
from label_studio_sdk.converter.brush import decode_rle, mask2rle

CONFIG = """<View><Image name="image" value="$image"/>
<BrushLabels name="brush" toName="image"><Label value="Cup"/></BrushLabels>
<KeyPointLabels name="point" toName="image" smart="true"><Label value="Cup" smart="true"/></KeyPointLabels></View>"""


def predict(url, image, regions):
    """The regions that answer what was drawn."""
    task = {"id": 1, "data": {"image": image}, "annotations": [], "predictions": []}
    body = {"tasks": [task], "label_config": CONFIG, "project": "1.1", "params": {"context": {"result": regions}}}
    answer = requests.post(f"{url}/predict", json=body, timeout=60)
    answer.raise_for_status()
    return answer.json()["results"][0]["result"]


def pixels(region):
    """The mask of a region, as the tool's library decodes it."""
    height, width = region["original_height"], region["original_width"]
    return np.reshape(decode_rle(region["value"]["rle"]), (height, width, 4))[:, :, 3] > 0


def main():
    url, path = sys.argv[1], pathlib.Path(sys.argv[2])
    image = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
    click = {
        "type": "keypointlabels",
        "from_name": "point",
        "to_name": "image",
        "is_positive": True,
        "value": {"x": 290 / 6, "y": 150 / 4, "width": 0.3, "keypointlabels": ["Cup"]},
    }
    (region,) = predict(url, image, [click])
    mask = pixels(region)
    assert mask[150, 290] and not mask[5, 5]
    native = requests.post(
        f"{url}/v1/predict",
        json={"image": {"data": image}, "prompts": [{"points": [[290, 150]]}], "candidates": False},
        timeout=60,
    ).json()
    assert mask.sum() == native["objects"][0]["selected"]["area"], mask.sum()
    # The other way: what the library encodes is understood as a rough mask.
    rle = mask2rle(mask.astype(np.uint8) * 255)
    brush = {"type": "brushlabels", "from_name": "brush", "to_name": "image", "value": {"format": "rle", "rle": rle}}
    (again,) = predict(url, image, [brush])
    both, either = (pixels(again) & mask).sum(), (pixels(again) | mask).sum()
    assert both / either > 0.8, both / either
    print(f"Label Studio: {mask.sum()} pixels, IoU {both / either:.3f} of a brush redrawn")


main()
