"""Keras's own Distiller on our data and budget: what it is compared with.

The update is its own, by `train_on_batch`: its losses, its default weights, the
plain Keras layers of teacher and student. Only batches, optimizer and rate are
those of our students.
"""

import keras
import tensorflow as tf
from keras import distillation

from ft_tf import errors, recipes
from ft_tf.models import onnx_models
from ft_tf.training import averaging, step

DISTILLATION = 'distillation'  # the term of the teacher's outputs
TERMS = ('loss', 'cross_entropy', DISTILLATION)


def compile_steps(
  strategy: tf.distribute.Strategy,
  *,
  teacher: keras.Model,
  student: keras.Model,
  optimizer: keras.optimizers.Optimizer,
  method: str,
  average: averaging.Average | None = None,
) -> step.Steps:
  """Returns the loop of the Distiller's steps; see `loop.Training`.

  Args:
    strategy: The device.
    teacher: Trained, to logits.
    student: To be trained, to logits.
    optimizer: Built on the student's variables.
    method: Of `recipes.INCUMBENTS`: with the Distiller's default loss, the
      string 'kl_divergence', which Keras 3.15 takes of clipped raw logits; or
      with a `keras.losses.KLDivergence()`, which it takes of softened
      probabilities, times T^2. Temperature 3 and weight 1/2 are its defaults.
    average: As of `step.compile_steps`.

  Raises:
    UsageError: there is more than one device, where its updates differ, or the
      teacher is not of Keras.
  """
  if strategy.num_replicas_in_sync > 1:
    raise errors.UsageError(
      f'--method={method} trains on one device: give --num_replicas=1'
    )
  if onnx_models.holds(teacher):
    raise errors.UsageError(
      f'--method={method} needs a teacher of Keras: give kd, or a .keras file'
    )
  loss = {}
  if method == recipes.KERAS_DISTILLER_KL:
    loss['loss'] = keras.losses.KLDivergence()
  with strategy.scope():
    distiller = distillation.Distiller(
      teacher=teacher,
      student=student,
      distillation_losses=distillation.LogitsDistillation(**loss),
    )
    distiller.compile(
      optimizer=optimizer,
      loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )

  def train_steps(iterator, count):
    rows = []
    for _ in range(int(count)):
      start = step.clock()
      batch = next(iterator)
      wait = step.clock() - start
      distiller.reset_metrics()
      metrics = distiller.train_on_batch(
        batch['image'], batch['label'], return_dict=True
      )
      if average is not None:
        average.update()
      rows.append(
        {
          'loss': metrics['total_loss'],
          'cross_entropy': metrics['student_loss'],
          DISTILLATION: metrics['distillation_loss'],
          step.INPUT_WAIT: wait,
        }
      )
    return {
      name: tf.stack([tf.cast(row[name], tf.float32) for row in rows])
      for name in (*TERMS, step.INPUT_WAIT)
    }

  return train_steps
