"""What Keras's own distillation cannot do, and ours is for."""

import keras
import numpy as np
from absl.testing import absltest

import ft_tf
from ft_tf import factors
from tests import small_distillers as small


class _Translates(keras.distillation.DistillationLoss):
  """Factor transfer as Keras's way of distillation would have it."""

  teacher_layer_name = student_layer_name = 'maps'

  def __init__(self, paraphraser, translator):
    super().__init__()
    self.paraphraser, self.translator = paraphraser, translator

  def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
    each = ft_tf.losses.factor_transfer(
      self.translator(student_outputs), self.paraphraser.encode(teacher_outputs)
    )
    return keras.ops.mean(each)


class KerasTest(absltest.TestCase):
  """Why Keras's own Distiller does not do; the class's docstring says so."""

  def setUp(self):
    super().setUp()
    if not keras.__version__.startswith('3.15.'):
      self.skipTest('is of Keras 3.15; look again, and adapt the docstring')
    keras.utils.set_random_seed(0)
    self.paraphraser = factors.Paraphraser(0.5)
    self.paraphraser.build((None, 8, 8, 6))
    self.translator = factors.Translator(3)
    self.translator.build((None, 8, 8, 4))

  def _fit(self, student):
    distiller = keras.distillation.Distiller(
      small.network(6),
      student,
      _Translates(self.paraphraser, self.translator),
    )
    distiller.compile(keras.optimizers.SGD(0.1), small.LABELS)
    images, labels = small.data(16)
    distiller.fit(images, labels, batch_size=16, verbose=0)
    return distiller

  def test_it_does_not_train_a_translator(self):
    student = small.network(4)
    before = self.translator.get_weights()
    distiller = self._fit(student)
    self.assertLen(
      distiller.trainable_variables, len(student.trainable_variables)
    )
    for now, then in zip(self.translator.get_weights(), before, strict=True):
      np.testing.assert_array_equal(now, then)

  def test_it_runs_the_student_twice_per_step(self):
    image = keras.Input(small.SHAPE)
    x = keras.layers.Conv2D(4, 3, padding='same', name='maps')(image)
    x = keras.layers.BatchNormalization(momentum=0.5, name='norm')(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    student = keras.Model(image, keras.layers.Dense(3)(x))
    maps = student.get_layer('maps')(small.data(16)[0])
    self._fit(student)
    mean = np.mean(maps, axis=(0, 1, 2))
    # Once would be half the mean; twice, with the same weights, three quarters.
    np.testing.assert_allclose(
      student.get_layer('norm').moving_mean, 0.75 * mean, rtol=1e-4
    )


if __name__ == '__main__':
  absltest.main()
