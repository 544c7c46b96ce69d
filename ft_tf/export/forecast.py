"""How long an export will take, from one conversion and one pass of images.

An export converts, runs each file on the test images and the network on the
calibration images, and studies the layers of a student. The shares below were
measured on students of photos: a ResNet-20 of 32 pixels, a MobileNetV2 of 96,
and a MobileNetV3Small of 96 and of 224. The sums were within 27 % of the whole
time of each.
"""

import dataclasses
import time
from typing import Any

import keras
import numpy as np

from ft_tf import errors
from ft_tf.evaluation import predictors
from ft_tf.export import calibration_images, formats, layer_study
from ft_tf.models import graph, standard
from ft_tf.quantisation import places

_CONVERTED, _PASSED = 16, 64  # images of what is timed
# What parts take, in conversions to int8: to convert and time a file, to load
# and compile the Keras model, to write and load a SavedModel, and the twin of
# the layer study;
_FILE, _KERAS, _SERVED, _TWIN = 0.85, 0.6, 1.4, 2.3
# and in passes of an image in float: an image of calibration, by the twin or by
# the converter; a test image in a file of any format; and an image of the layer
# study, for each layer.
_BY_TWIN, _BY_CONVERTER = 1.3, 8.0
_TEST, _STUDIED = 1.0, 0.9


@dataclasses.dataclass(frozen=True)
class Network:
  """What the parts of a network's export take.

  Attributes:
    conversion: Seconds of a conversion to int8.
    image: Seconds of an image in float32, in batches.
    calls: Number of calls in its graph.
    calibration: Passes of an image that finding the ranges takes for each.
    switched: Number of layers that the layer study looks at; 0: there is none.
    image_values: Numbers of an image, height times width times channels.
  """

  conversion: float
  image: float
  calls: int
  calibration: float
  switched: int
  image_values: int

  def seconds(
    self,
    *,
    train: int,
    test: int,
    files: int = len(formats.DEFAULT),
    serves: bool = True,
  ) -> float:
    """Returns the seconds of its export.

    Args:
      train: Number of training images.
      test: Number of test images.
      files: Number of files of `formats.FORMATS` that are made.
      serves: Whether a SavedModel is made too.
    """
    calibrated = min(train, calibration_images.COUNT)
    conversions = _FILE * files + _KERAS + _SERVED * serves
    tested = files + 1 + serves
    passes = self.calibration * calibrated + _TEST * tested * test
    if self.switched:
      conversions += _TWIN
      studied = min(layer_study.count(self.image_values), calibrated)
      passes += _STUDIED * self.switched * studied
    return conversions * self.conversion + passes * self.image


def of_student(student: keras.Model, images: np.ndarray) -> Network:
  """Returns what the parts of a student's export take.

  Args:
    student: From raw images to logits, in float32.
    images: Raw training images of its size, `[N, H, W, C]` uint8.

  Raises:
    UsageError: TFLite lacks operations of it.
  """
  student, _ = standard.standardize(student)
  start = time.monotonic()
  formats.FORMATS['int8'].make(formats.Source(student, images[:_CONVERTED]))
  conversion = time.monotonic() - start
  return Network(
    conversion=conversion,
    image=_seconds_of_image(student, images),
    calls=len(graph.calls(student)),
    **_quantisation(student),
    image_values=images[0].size,
  )


def of_compared(
  model: keras.Model, images: np.ndarray, student: Network
) -> Network:
  """Returns the same for a network that a student is compared with.

  It is not converted for it: per call of its graph it takes what the student
  takes.

  Args:
    model: From raw images to logits.
    images: As of `of_student`.
    student: What the student's take.
  """
  model, _ = standard.standardize(model)
  calls = len(graph.calls(model))
  return Network(
    conversion=student.conversion * calls / student.calls,
    image=_seconds_of_image(model, images),
    calls=calls,
    **(_quantisation(model) | {'switched': 0}),
    image_values=images[0].size,
  )


def _quantisation(model: keras.Model) -> dict[str, Any]:
  """Returns what depends on whether a network's int8 arithmetic is known."""
  try:
    switched = len({role.group for role in places.plan(model)})
  except errors.UsageError:
    return {'calibration': _BY_CONVERTER, 'switched': 0}
  return {'calibration': _BY_TWIN, 'switched': switched}


def _seconds_of_image(model: keras.Model, images: np.ndarray) -> float:
  predict = predictors.KerasPredictor(model)
  images = images[:_PASSED]
  predict(images)  # It is compiled in the first call.
  start = time.monotonic()
  predict(images)
  return (time.monotonic() - start) / len(images)
