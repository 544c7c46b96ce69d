"""What every format's inference shares: its interface and its checks."""

import abc
import contextlib
from collections.abc import Callable, Iterator, Sequence, Sized

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ft_tf import errors


class Predictor(abc.ABC):
  """A model's inference, from raw images to outputs, whatever its format.

  Attributes:
    image_shape: `(H, W, C)` of its images; None where it takes any.
    given: How messages call a model that the user gave, such as its path; ''
      for one that was trained here.
    opaque: Whether its last layer cannot be seen, so that only its outputs
      tell logits from probabilities.
    output_step: Between two values of its outputs next to each other; 0 where
      they are real numbers.
  """

  image_shape: tuple[int | None, int | None, int | None]
  given: str = ''
  opaque: bool = False
  output_step: float = 0.0

  @abc.abstractmethod
  def __call__(self, images: np.ndarray) -> np.ndarray:
    """Returns outputs `[B, classes]` float32 of `[B, H, W, C]` uint8."""

  @property
  def image_size(self) -> int:
    """Returns H if the model takes square images of one size, otherwise 0."""
    height, width, _ = self.image_shape
    return height if height is not None and height == width else 0

  def check_shape(self, image_shape: tuple[int, int, int]) -> None:
    """Raises `UsageError` if the model does not take images of a shape."""
    if any(
      wanted not in (None, given)
      for wanted, given in zip(self.image_shape, image_shape, strict=True)
    ):
      wanted = 'x'.join(str(n or 'any') for n in self.image_shape)
      raise errors.UsageError(
        f'{self.given or "the model"} takes images of {wanted} (height x width '
        f'x channels), these are {"x".join(map(str, image_shape))}: leave out '
        '--image_size, or give another --model or --dataset'
      )


@contextlib.contextmanager
def computing(given: str) -> Iterator[None]:
  """Turns what a given model raises while it computes into one line.

  Args:
    given: As of `Predictor`; of '', a model of ours, nothing is turned.

  Raises:
    UsageError: as said.
  """
  try:
    yield
  except errors.UsageError:
    raise
  except Exception as error:  # Each runtime raises its own kinds.
    if not given:
      raise
    raise errors.UsageError(
      f'{given} fails on these images '
      f'({errors.first_line(error)}): give a model that '
      'computes logits of images, whole and as its software wrote it'
    ) from error


def check_single(path: str, inputs: Sized, outputs: Sized) -> None:
  """Raises `UsageError` unless there is one input and one output."""
  if (len(inputs), len(outputs)) != (1, 1):
    raise errors.UsageError(
      f'{path} has {len(inputs)} inputs and {len(outputs)} outputs: give a '
      'model from images to logits and nothing else'
    )


def check_images(
  path: str, shape: Sequence[int | None], dtype: npt.DTypeLike
) -> None:
  """Raises `UsageError` unless an input is of images `[B, H, W, C]`."""
  if np.dtype(dtype).kind not in 'iuf' and dtype != tf.bfloat16.as_numpy_dtype:
    raise errors.UsageError(
      f'{path} takes {np.dtype(dtype).name}, not images: give a model that '
      'takes uint8 or float32 [B, H, W, C]'
    )
  if len(shape) != 4:
    raise errors.UsageError(
      f'{path} takes inputs of shape {shape}: give a model that takes images '
      '[B, H, W, C]'
    )
  if shape[3] not in (None, 1, 3) and shape[1] in (1, 3):
    raise errors.UsageError(
      f'{path} takes images of channels first, {shape}: give a model that '
      'takes [B, H, W, C]'
    )


def check_outputs(outputs: np.ndarray, count: int, path: str) -> np.ndarray:
  """Returns outputs; raises `UsageError` if they are not `[count, classes]`."""
  if outputs.ndim != 2 or len(outputs) != count:
    raise errors.UsageError(
      f'{path} gives outputs of shape {outputs.shape} for {count} images: give '
      'a model of logits [B, classes]'
    )
  return outputs


def in_fixed_batches(
  run: Callable[[np.ndarray], np.ndarray],
  images: np.ndarray,
  size: int | None,
  path: str,
) -> np.ndarray:
  """Returns the outputs of a model that takes batches of one size, or of any.

  Args:
    run: The model.
    images: `[B, H, W, C]`.
    size: Of its batches; None: any.
    path: The model's, for messages.
  """
  if size is None:
    return check_outputs(run(images), len(images), path)
  parts = []
  for first in range(0, len(images), size):
    some = images[first : first + size]
    missing = size - len(some)
    full = np.concatenate([some, np.repeat(some[-1:], missing, axis=0)])
    parts.append(check_outputs(run(full), size, path)[: len(some)])
  return np.concatenate(parts)
