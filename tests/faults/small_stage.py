"""A stage of the real skeleton whose steps cost nothing."""

import os

import keras
import numpy as np
import tensorflow as tf

from ft_tf import run_dir
from ft_tf.training import loop, stage, step, student_stage
from tests import fixtures

EPOCHS = 3  # of 3 steps each
_BEST_EPOCH = 2


class SmallStage(stage.Stage):
  """Moves one kernel by what each batch has in it, in order.

  A step that is left out, repeated or fed another batch leaves other weights.
  """

  method = name = 'teacher'

  def __init__(self, stop_after: int = -1, seed: int = 0):
    self.recipe = fixtures.recipe(teacher_epochs=EPOCHS, seed=seed)
    self.dataset = fixtures.blobs()
    self._stop_after = stop_after

  def identity(self):
    return stage.identity('teacher', self.recipe)

  def build(self, strategy):
    image = keras.Input((8, 8, 1), name='image')
    x = keras.layers.Flatten(name='flat')(image)
    x = keras.layers.Dense(3, name='logits')(x)
    self.model = keras.Model(image, x, name='small')
    self._momentum = tf.Variable(tf.zeros([64, 3]))

  def prepare(self, run, strategy, options, part):
    (kernel, _) = self.model.weights
    done = tf.Variable(0, dtype=tf.int64)

    def train_steps(iterator, count):
      losses = []
      for _ in range(int(count)):
        if done == self._stop_after:
          raise KeyboardInterrupt
        batch = next(iterator)['image']
        mean = tf.reshape(
          tf.reduce_mean(tf.cast(batch, tf.float32), 0), [64, 1]
        )
        self._momentum.assign(0.9 * self._momentum + mean / 255)
        kernel.assign(kernel * 0.99 + self._momentum)
        done.assign_add(1)
        losses.append(tf.reduce_mean(kernel))
      return {
        'loss': tf.stack(losses),
        step.INPUT_WAIT: tf.zeros(len(losses)),
      }

    def evaluate():
      epoch = round(int(done) / 3)
      return {'validation_accuracy': 0.75 if epoch == _BEST_EPOCH else 0.5}

    best = os.path.join(run.path, student_stage.BEST)
    return loop.Training(
      method=self.method,
      epochs=EPOCHS,
      examples=self.dataset.train,
      labels=True,
      train_steps=train_steps,
      state={'model': self.model, 'momentum': self._momentum, 'done': done},
      rate=lambda step: 0.5 * step,
      evaluate=evaluate,
      pictures=lambda: np.zeros((4, 4, 3), np.uint8),
      keep_best=lambda: stage.save(best, self.model),
    )

  def score(self, run):
    best = student_stage.load_best(run)
    scores = {'accuracy': float(np.mean(self.model.get_weights()[0]))}
    if best is not None:
      scores['best_accuracy'] = float(np.mean(best.get_weights()[0]))
    return scores


def run_stage(path: str, stop_after: int = -1, seed: int = 0) -> dict:
  """Runs the stage in a folder; stops as by Ctrl-C after some steps."""
  return stage.run_stage(
    SmallStage(stop_after, seed),
    run=run_dir.RunDir(path),
    strategy=fixtures.strategy(),
    options=loop.Options(log_steps=1, checkpoint_steps=2, progress='off'),
  )


def weights(path: str) -> list[np.ndarray]:
  """Returns the weights of a run's `model.keras`."""
  return keras.models.load_model(run_dir.RunDir(path).model).get_weights()
