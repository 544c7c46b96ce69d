"""A network in the runtimes that the benchmark compares, each in one thread."""

import dataclasses
import importlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ft_tf import native_output
from ft_tf.evaluation import device_files
from ft_tf.export import formats, onnx_file

_FLOAT = 'model.onnx'


@dataclasses.dataclass(frozen=True)
class Runner:
  """A network in one runtime and one precision.

  Attributes:
    name: Such as 'LiteRT int8'.
    predict: From images `[B, H, W, C]` uint8 to outputs `[B, N]` float32, one
      image after another.
    invoke: Runs the last image of `predict` again.
  """

  name: str
  predict: Callable[[np.ndarray], np.ndarray]
  invoke: Callable[[], object]


def open_all(source: formats.Source, folder: str) -> Iterator[Runner]:
  """Yields a network in every runtime and precision.

  Args:
    source: The network and its calibration images.
    folder: For the files, which have to stay as long as the runners.
  """
  for name, text in (
    ('fp32', 'float32'),
    ('fp16', 'float16'),
    ('int8', 'int8'),
  ):
    form = formats.FORMATS[name]
    path = os.path.join(folder, form.file)
    with open(path, 'wb') as file:
      file.write(form.convert(source))
    yield _of_file(f'LiteRT {text}', path)
  path = os.path.join(folder, _FLOAT)
  with open(path, 'wb') as file:
    file.write(formats.FORMATS['onnx'].convert(source))
  yield _of_file('ONNX Runtime float32', path)
  for kind in ('u8s8', 's8s8'):
    quantised = os.path.join(folder, f'{kind}.onnx')
    _quantise_onnx(path, quantised, source.calibration, kind)
    yield _of_file(f'ONNX Runtime int8, {kind}', quantised)
  openvino = importlib.import_module('openvino')
  model = openvino.Core().read_model(path)
  yield _openvino('OpenVINO float32', model)
  yield _openvino(
    'OpenVINO int8', _quantise_openvino(model, source.calibration)
  )


def _of_file(name: str, path: str) -> Runner:
  predictor = device_files.open_file(path, threads=1)

  def predict(images):
    return np.concatenate([predictor(image[None]) for image in images])

  return Runner(name, predict, predictor.invoke)


def _quantise_onnx(
  source: str, target: str, images: np.ndarray, kind: str
) -> None:
  """Writes an int8 file by ONNX Runtime's static quantiser.

  Args:
    source: The float32 file.
    target: The int8 file.
    images: Calibration images.
    kind: Of maps and weights: 'u8s8' or 's8s8'.
  """
  quantization: Any = importlib.import_module('onnxruntime.quantization')
  shapes = importlib.import_module('onnxruntime.quantization.shape_inference')

  prepared = f'{target}.prepared'
  with native_output.held():
    # As its manual asks for: folds batch norm, finds the shapes of all maps.
    shapes.quant_pre_process(source, prepared, skip_symbolic_shape=True)
    quantization.quantize_static(
      prepared,
      target,
      _Feeds(images),
      per_channel=True,
      activation_type={
        'u8s8': quantization.QuantType.QUInt8,
        's8s8': quantization.QuantType.QInt8,
      }[kind],
      weight_type=quantization.QuantType.QInt8,
    )


class _Feeds:
  """Calibration images, as ONNX Runtime's quantiser reads them."""

  def __init__(self, images: np.ndarray):
    self._feeds = iter([{onnx_file.INPUT: image[None]} for image in images])

  def get_next(self) -> dict[str, np.ndarray] | None:
    return next(self._feeds, None)


def _quantise_openvino(model: Any, images: np.ndarray) -> Any:
  """Returns an OpenVINO model in int8, by NNCF."""
  nncf = importlib.import_module('nncf')
  with native_output.held():
    return nncf.quantize(
      model,
      nncf.Dataset([image[None] for image in images]),
      subset_size=len(images),
      # NNCF 3.4 takes the 3 that hard sigmoid adds for a bias, and fails on it.
      advanced_parameters=nncf.AdvancedQuantizationParameters(
        disable_bias_correction=True
      ),
    )


def _openvino(name: str, model: Any) -> Runner:
  openvino = importlib.import_module('openvino')
  request = (
    openvino.Core()
    .compile_model(
      model,
      'CPU',
      {
        'INFERENCE_NUM_THREADS': 1,
        'PERFORMANCE_HINT': 'LATENCY',
        # It would compute in bfloat16 where the processor can.
        'INFERENCE_PRECISION_HINT': 'f32',
      },
    )
    .create_infer_request()
  )

  def predict(images):
    outputs = []
    for image in images:
      request.infer([image[None]])
      outputs.append(np.array(request.get_output_tensor().data))
    return np.concatenate(outputs)

  return Runner(name, predict, request.infer)
