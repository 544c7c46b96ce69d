"""The files that devices run, .tflite and .onnx, run on raw images."""

import abc
import dataclasses
import importlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from ai_edge_litert import interpreter as litert

from ft_tf import errors, native_output
from ft_tf.evaluation import inference

# Raw images reach to 255. An 8-bit input that ends below this, or begins as far
# below 0, is of values that were scaled before, such as 0..1 or -1..1.
_LEAST_HIGHEST = 8

_ONNX_TYPES = {
  'tensor(uint8)': 'uint8',
  'tensor(float)': 'float32',
  'tensor(float16)': 'float16',
  'tensor(double)': 'float64',
}


@dataclasses.dataclass(frozen=True)
class TensorType:
  """The input or the output of a model file.

  Attributes:
    dtype: The file's own, such as 'uint8'.
    shape: None where it is left open.
    scale: Real value of a step of integers; 0 where they are no such.
    zero_point: The integer of the real value 0.
  """

  dtype: str
  shape: tuple[int | None, ...]
  scale: float = 0.0
  zero_point: int = 0

  def as_json(self) -> dict[str, Any]:
    """Returns it as `export.json` has it."""
    quantisation = {}
    if self.scale:
      quantisation = {'scale': self.scale, 'zero_point': self.zero_point}
    return {'dtype': self.dtype, 'shape': list(self.shape), **quantisation}


class FilePredictor(inference.Predictor):
  """A file that a device's runtime executes.

  Attributes:
    input: Its images.
    output: Its logits.
    flexible_batch: Whether it takes several images at once by its signature.
  """

  opaque = True
  input: TensorType
  output: TensorType
  flexible_batch: bool

  @abc.abstractmethod
  def invoke(self) -> None:
    """Runs the images of the call before once more, for timing."""


class LiteRTPredictor(FilePredictor):
  """Runs a .tflite file, whose integers mean what its quantisation says.

  An image's values 0..255 become the input's integers by the file's scale and
  zero point, and integer outputs real numbers by theirs. An input of real
  numbers is given 0..255. A file of one image is given several at once where
  that gives the same.

  Attributes:
    interpreter: LiteRT's.
  """

  def __init__(self, path: str, *, threads: int | None = None):
    """Reads the file.

    Args:
      path: A .tflite file with one image input and one output.
      threads: CPU threads of the interpreter; all cores if None.

    Raises:
      UsageError: the file does not load, or takes something else.
    """
    try:
      with native_output.held():
        self.interpreter = litert.Interpreter(
          model_path=path, num_threads=threads or os.cpu_count()
        )
        self.interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
      raise errors.UsageError(
        f'{path} does not load in LiteRT ({errors.first_line(error)}): '
        'give a .tflite file'
      ) from error
    inputs = self.interpreter.get_input_details()
    outputs = self.interpreter.get_output_details()
    inference.check_single(path, inputs, outputs)
    (self._input,), (self._output,) = inputs, outputs
    self.input, self.output = map(_tensor_type, (self._input, self._output))
    shape = self.input.shape
    inference.check_images(path, list(shape), self._input['dtype'])
    self._quantisation = _input_quantisation(path, self._input)
    self.given = path
    self._batch, height, width, channels = shape
    self.image_shape = height, width, channels
    self.output_step = self.output.scale
    self.flexible_batch = self._batch is None
    # Whether it takes many images; None: to be tried, since a batch of one is
    # often one of the signature alone.
    self._takes_many = True if self._batch is None else None
    if self._batch not in (None, 1):
      self._takes_many = False

  def __call__(self, images: np.ndarray) -> np.ndarray:
    if self._takes_many is not False and len(images) > 1:
      outputs = self._many(images)
      if outputs is not None:
        return outputs
      # Operations within hold on to the batch that the file was made with.
      self._takes_many, self.flexible_batch = False, False
    if self._batch is None and len(images) == 1:
      return inference.check_outputs(self._run(images), 1, self.given)
    return inference.in_fixed_batches(
      self._run, images, self._batch or 1, self.given
    )

  def _many(self, images):
    """Returns the outputs of all images at once; None if that fails."""
    try:
      outputs = self._run(images)
      if outputs.shape[0] != len(images):
        return None
      if self._takes_many is None:
        last = self._run(images[-1:])
        step = self.output_step
        if not np.allclose(outputs[-1:], last, rtol=1e-3, atol=1e-3 + step):
          return None
        self._takes_many = True
    except (ValueError, RuntimeError):
      return None
    return inference.check_outputs(outputs, len(images), self.given)

  def invoke(self) -> None:
    self.interpreter.invoke()

  def _run(self, images):
    with inference.computing(self.given):
      return self._run_any(images)

  def _run_any(self, images):
    if tuple(self._shape()) != images.shape:
      self.interpreter.resize_tensor_input(self._input['index'], images.shape)
      self.interpreter.allocate_tensors()
    self.interpreter.set_tensor(self._input['index'], self._quantised(images))
    self.interpreter.invoke()
    output = self.interpreter.get_tensor(self._output['index'])
    scale, zero = self._output['quantization']
    if scale:
      return (output.astype(np.float32) - zero) * np.float32(scale)
    return output.astype(np.float32)

  def _shape(self):
    (details,) = self.interpreter.get_input_details()
    return details['shape']

  def _quantised(self, images):
    dtype = self._input['dtype']
    if self._quantisation is None:
      return images.astype(dtype)
    scale, zero = self._quantisation
    limits = np.iinfo(dtype)
    values = np.round(images / np.float32(scale)) + zero
    return values.clip(limits.min, limits.max).astype(dtype)


def _tensor_type(details: Mapping[str, Any]) -> TensorType:
  scale, zero_point = details['quantization']
  return TensorType(
    np.dtype(details['dtype']).name,
    tuple(None if n == -1 else int(n) for n in details['shape_signature']),
    float(scale),
    int(zero_point),
  )


class OnnxPredictor(FilePredictor):
  """Runs an .onnx file of one image input and one output of real numbers."""

  flexible_batch = False

  def __init__(self, path: str, *, threads: int | None = None):
    """Reads the file.

    Args:
      path: The file.
      threads: CPU threads; all cores if None.

    Raises:
      UsageError: ONNX Runtime is not installed, the file does not load in it,
        or takes something else.
    """
    try:
      onnxruntime = importlib.import_module('onnxruntime')
    except ImportError as error:
      raise errors.UsageError(
        f'{path} needs ONNX Runtime: pip install onnxruntime'
      ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or os.cpu_count() or 1
    options.log_severity_level = 3  # errors alone
    try:
      self._session = onnxruntime.InferenceSession(
        path, options, providers=['CPUExecutionProvider']
      )
    except Exception as error:  # ONNX Runtime's own kinds.
      raise errors.UsageError(
        f'{path} does not load in ONNX Runtime ('
        f'{errors.first_line(error)}): give an .onnx file'
      ) from error
    inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
    inference.check_single(path, inputs, outputs)
    self.input, self.output = (
      TensorType(
        _ONNX_TYPES.get(each.type, each.type),
        tuple(n if isinstance(n, int) else None for n in each.shape),
      )
      for each in (*inputs, *outputs)
    )
    if self.input.dtype not in _ONNX_TYPES.values():
      raise errors.UsageError(
        f'{path} takes {self.input.dtype}, not images: give a model that takes '
        'uint8 or float32 [B, H, W, C]'
      )
    inference.check_images(path, list(self.input.shape), self.input.dtype)
    self.given = path
    self._name = inputs[0].name
    self._batch, height, width, channels = self.input.shape
    self.image_shape = height, width, channels
    self.flexible_batch = self._batch is None

  def __call__(self, images: np.ndarray) -> np.ndarray:
    return inference.in_fixed_batches(
      self._run, images, self._batch, self.given
    )

  def invoke(self) -> None:
    self._session.run(None, self._feed)

  def _run(self, images):
    self._feed = {self._name: images.astype(self.input.dtype)}
    with inference.computing(self.given):
      (output,) = self._session.run(None, self._feed)
    return output.astype(np.float32)


def _input_quantisation(
  path: str, details: Mapping[str, Any]
) -> tuple[float, int] | None:
  """Returns scale and zero point of a .tflite file's input; None: it has none.

  Raises:
    UsageError: the input cannot stand for raw images of 0 to 255.
  """
  scale, zero = details['quantization']
  if not np.issubdtype(details['dtype'], np.integer):
    return None
  limits = np.iinfo(details['dtype'])
  if not scale:
    if limits.max >= 255:
      return None
    low, high = limits.min, limits.max
  else:
    low, high = ((end - zero) * scale for end in (limits.min, limits.max))
  symmetric = limits.bits > 8
  if scale and high >= _LEAST_HIGHEST and (symmetric or low > -_LEAST_HIGHEST):
    return float(scale), int(zero)
  raise errors.UsageError(
    f'{path} takes values of {low:.4g} to {high:.4g} (scale {scale:.4g}, zero '
    f'point {zero}), images are 0 to 255: give a file that has their '
    'preprocessing inside'
  )


def open_file(path: str, *, threads: int | None = None) -> FilePredictor:
  """Returns the predictor of a .tflite or .onnx file.

  Args:
    path: The file.
    threads: CPU threads; all cores if None.

  Raises:
    UsageError: as of the two classes.
  """
  kind = OnnxPredictor if path.endswith('.onnx') else LiteRTPredictor
  return kind(path, threads=threads)
