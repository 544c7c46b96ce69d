"""What an export will take, by the parts that it is made of."""

import keras
import numpy as np
from absl.testing import absltest

from ft_tf.export import forecast
from tests import quantised_networks

_NETWORK = forecast.Network(
  conversion=2.0,
  image=0.01,
  calls=10,
  calibration=1.3,
  switched=5,
  image_values=192,
)


class ForecastTest(absltest.TestCase):
  def test_parts_add_up(self):
    # 3 files, a Keras model, a SavedModel and a twin, 100 images of
    # calibration, 50 test images in 5 files, and 5 layers seen on 100 images.
    wanted = 2 * (0.85 * 3 + 0.6 + 1.4 + 2.3)
    wanted += 0.01 * (1.3 * 100 + 5 * 50 + 0.9 * 5 * 100)
    self.assertAlmostEqual(_NETWORK.seconds(train=100, test=50), wanted)

  def test_each_image_is_calibrated_on_once_up_to_a_thousand(self):
    few = _NETWORK.seconds(train=1000, test=0)
    self.assertEqual(_NETWORK.seconds(train=10**6, test=0), few)
    self.assertLess(_NETWORK.seconds(train=500, test=0), few)

  def test_more_files_and_more_test_images_take_longer(self):
    usual = _NETWORK.seconds(train=100, test=1000)
    self.assertGreater(_NETWORK.seconds(train=100, test=1000, files=5), usual)
    self.assertGreater(_NETWORK.seconds(train=100, test=2000), usual)

  def test_student_is_timed_and_a_larger_network_takes_longer(self):
    images, _ = quantised_networks.images(64)
    student = forecast.of_student(quantised_networks.trained(), images)
    self.assertGreater(student.conversion, 0)
    self.assertGreater(student.image, 0)
    self.assertEqual(student.image_values, images[0].size)
    self.assertGreater(student.switched, 3)
    image = keras.Input(images.shape[1:])
    x = image
    for _ in range(4 * student.calls):
      x = keras.layers.ReLU()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    teacher = keras.Model(image, keras.layers.Dense(3)(x))
    compared = forecast.of_compared(teacher, images, student)
    self.assertEqual(compared.switched, 0)
    self.assertGreater(compared.conversion, 4 * student.conversion)

  def test_layers_without_int8_arithmetic_are_not_counted(self):
    image = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(4, 3, activation='softplus')(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    student = keras.Model(image, keras.layers.Dense(3)(x))
    images = np.random.default_rng(0).integers(256, size=(16, 8, 8, 3))
    network = forecast.of_student(student, images.astype(np.uint8))
    self.assertEqual(network.switched, 0)
    # The converter calibrates, one image at a time on one thread.
    known = forecast.of_student(
      quantised_networks.trained(), quantised_networks.images(64)[0]
    )
    self.assertGreater(network.calibration, 3 * known.calibration)


if __name__ == '__main__':
  absltest.main()
