"""Models and images that a user gives to commands."""

import json
import os

import keras
import numpy as np
import pytest
from absl.testing import absltest
from PIL import Image

from ft_tf.data import sources
from ft_tf.evaluation import metrics, predictors
from ft_tf.models import layers, zoo
from tests import networks
from tests.cli import commands


class GivenTest(absltest.TestCase):
  def test_checkpoint_of_pytorch_becomes_a_teacher_that_is_measured(self):
    folder = self.create_tempdir().full_path
    arrays = networks.torch_resnet(width=0.25, channels=1, classes=10)
    np.savez(f'{folder}/mine.npz', **arrays)
    data = f'--data_dir={folder}/data'
    (code, out, err), *wrong = commands.each(
      'import-torch',
      [
        f'--weights={folder}/mine.npz',
        '--network=resnet8x0.25',
        '--mean=0.5',
        '--std=0.25',
        '--dataset=digits',
        data,
        f'--workdir={folder}/teacher',
      ],
      [
        f'--weights={folder}/mine.npz',
        '--network=resnet14',
        f'--workdir={folder}/other',
      ],
      [
        f'--weights={folder}/mine.npz',
        '--network=resnet8x0.25',
        '--std=0',
        f'--workdir={folder}/other',
      ],
    )
    self.assertEqual(code, 0, err)
    self.assertEqual(commands.result(out)['examples'], 1197)
    self.assertTrue(os.path.exists(commands.result(out)['model']))
    for code, out, err in wrong:
      self.assertEqual((code, out), (2, ''))
      self.assertRegex(err, r'^ft-tf import-torch: .*\n$')
    self.assertFalse(os.path.exists(f'{folder}/other'))

  @pytest.mark.slow
  def test_models_of_other_inputs_and_outputs_are_refused_by_every_program(
    self,
  ):
    folder = self.create_tempdir().full_path
    image = keras.Input((16, 16, 1))
    flat = keras.layers.Flatten()(image)
    vector = keras.Input((4,))
    dense = keras.layers.Dense(10)
    models = {
      'two outputs': keras.Model(image, [dense(flat), flat]),
      'vector': keras.Model(vector, keras.layers.Dense(10)(vector)),
      'two inputs': keras.Model(
        [image, vector],
        keras.layers.Dense(10)(keras.layers.Concatenate()([flat, vector])),
      ),
      'other classes': keras.Model(image, keras.layers.Dense(3)(flat)),
    }
    for name, model in models.items():
      model.save(f'{folder}/{name}.keras')
    data = f'--data_dir={folder}/data'
    digits = ['--recipe=digits', data, f'--workdir={folder}/new']
    for program, flags in {
      'compress': digits,
      'evaluate': ['--dataset=digits', data],
      'export': ['--dataset=digits', data, f'--workdir={folder}/new'],
      'inspect': [],
    }.items():
      which = 'teacher' if program == 'compress' else 'model'
      names = [
        *models,
        'missing',
      ][: -2 if program == 'inspect' else None]
      found = commands.each(
        program,
        *([*flags, f'--{which}={folder}/{name}.keras'] for name in names),
      )
      for name, (code, out, err) in zip(names, found, strict=True):
        with self.subTest(f'{program}, {name}'):
          self.assertEqual((code, out), (2, ''), err)
          self.assertRegex(err, rf'(?m)^ft-tf {program}: .*give .*\n\Z')
    self.assertFalse(os.path.exists(f'{folder}/new'))

  @pytest.mark.slow
  def test_layers_of_a_model_of_any_size_are_listed(self):
    path = os.path.join(self.create_tempdir().full_path, 'open.keras')
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding='same', name='one')(image)
    x = keras.layers.Conv2D(5, 3, strides=2, padding='same', name='two')(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    keras.Model(image, keras.layers.Dense(1)(x)).save(path)
    ((code, out, err),) = commands.each('inspect', [f'--model={path}'])
    self.assertEqual(code, 0, err)
    self.assertIn('open image size set to 224x224x3', err)
    self.assertEqual(
      [
        (each['layer'], each['shape'], each['called'])
        for each in json.loads(out.splitlines()[-1])['layers']
      ],
      [('one', [112, 112, 4], ['-2']), ('two', [56, 56, 5], ['auto', '-1'])],
    )

  @pytest.mark.slow
  def test_grey_pictures_serve_a_teacher_of_colours(self):
    folder = self.create_tempdir().full_path
    for label, value in (('cat', 40), ('dog', 200)):
      os.makedirs(f'{folder}/pictures/{label}')
      for i in range(15):
        image = Image.new('L', (30, 20), value + i)
        image.save(f'{folder}/pictures/{label}/{i}.png')
    zoo.build(
      'resnet8x0.25', layers.Spec((16, 16, 3), 2, (0.5,) * 3, (0.25,) * 3)
    ).save(f'{folder}/teacher.keras')
    code, out, err = commands.run(
      'compress',
      f'--teacher={folder}/teacher.keras',
      '--student=resnet8x0.25',
      f'--dataset=folder:{folder}/pictures',
      '--validation_examples=0',
      '--batch_size=8',
      '--student_epochs=1',
      '--paraphraser_epochs=1',
      f'--data_dir={folder}/data',
      f'--workdir={folder}/run',
    )
    self.assertEqual(code, 0, err)
    result = commands.result(out)
    self.assertEqual(result['examples'], 6)
    self.assertIn('16x16x3', err)
    # What TensorFlow's own log begins its lines with.
    self.assertNotRegex(err, r'(?m)^[IWEF]\d{4} ')
    data = [f'--dataset=folder:{folder}/pictures', f'--data_dir={folder}/data']
    code, out, err = commands.run(
      'evaluate', f'--model={folder}/run/export/student_fp32.tflite', *data
    )
    self.assertEqual(code, 0, err)
    self.assertEqual(commands.result(out)['accuracy'], result['accuracy'])
    self.assertAlmostEqual(
      commands.result(out)['loss'], result['loss'], places=4
    )
    code, out, err = commands.run(
      'export',
      f'--model={folder}/run/student/model.keras',
      f'--workdir={folder}/new',
      *data,
    )
    self.assertEqual(code, 0, err)
    with open(f'{folder}/run/export/export.json') as file:
      wanted = json.load(file)['student.keras']
    self.assertEqual(commands.result(out)['student.keras'], wanted)

  def test_images_come_as_the_model_takes_them_and_its_run_has_seen_them(self):
    folder = self.create_tempdir().full_path
    rng = np.random.default_rng(0)
    for label, column in (('cat', 2), ('dog', 24)):
      os.makedirs(f'{folder}/images/{label}')
      for i in range(10):
        values = rng.integers(90, size=(12, 36)).astype(np.uint8)
        values[:, column : column + 9] = 115
        Image.fromarray(values).save(f'{folder}/images/{label}/{i}.png')
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 50)(image))
    model = keras.Model(image, keras.layers.Dense(2)(x))
    os.makedirs(f'{folder}/run')
    with open(f'{folder}/run/recipe.json', 'w') as file:
      json.dump({'data': {'resizing': 'stretch', 'image_size': 8}}, file)
    paths = {
      'crop': f'{folder}/mine.keras',
      'stretch': f'{folder}/run/model.keras',
    }
    for path in paths.values():
      model.save(path)
    dataset = f'folder:{folder}/images'
    data = f'--data_dir={folder}/data'
    losses = {}
    for (kind, path), (code, out, err) in zip(
      paths.items(),
      commands.each(
        'evaluate',
        *(
          [f'--model={path}', f'--dataset={dataset}', data]
          for path in paths.values()
        ),
      ),
      strict=True,
    ):
      self.assertEqual(code, 0, f'{path}: {err}')
      source = sources.Source(
        dataset,
        data_dir=f'{folder}/data',
        image_size=8,
        resizing=kind,
        channels=3,
      )
      wanted = metrics.evaluate(
        predictors.KerasPredictor(model), source.read('test')
      )
      losses[kind] = commands.result(out)['loss']
      self.assertAlmostEqual(losses[kind], wanted['loss'], places=4)
    self.assertNotAlmostEqual(losses['crop'], losses['stretch'], places=2)

  @pytest.mark.slow
  def test_images_own_statistics_stand_for_a_recipe_of_other_channels(self):
    folder = self.create_tempdir().full_path
    for label, value in (('cat', 30), ('dog', 70)):
      os.makedirs(f'{folder}/images/{label}')
      for i in range(10):
        image = Image.new('L', (30, 20), value)
        image.save(f'{folder}/images/{label}/{i}.png')
    for channels in (1, 3):
      image = keras.Input((8, 8, channels))
      x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 50)(image))
      keras.Model(image, keras.layers.Dense(2)(x)).save(
        f'{folder}/{channels}.keras'
      )
    same = (
      f'--dataset=folder:{folder}/images',
      f'--data_dir={folder}/data',
      f'--workdir={folder}/new',
      '--student=resnet21',  # what is refused next
    )
    told, typed, converted = commands.each(
      'compress',
      [*same, f'--teacher={folder}/1.keras'],
      [*same, f'--teacher={folder}/1.keras', '--mean=1,1,1', '--std=1,1,1'],
      [
        *same,
        f'--teacher={folder}/3.keras',
        '--recipe=digits',
        '--dataset=digits',
      ],
    )
    for code, out, err in (told, typed, converted):
      self.assertEqual((code, out), (2, ''), err)
    self.assertIn(
      'mean and std: 0.196 and 0.078, of the training images; the recipe has '
      'those of 3 channels, the images have 1\n',
      told[2],
    )
    self.assertIn("unknown network 'resnet21'", told[2])
    self.assertRegex(typed[2], 'has 1 channels.* such as --mean=0.196 --std=')
    # Grey images of TFDS become colours for a teacher of these.
    self.assertIn('those of 1 channels, the images have 3\n', converted[2])
    self.assertIn('(8, 8, 3), the data set has (16, 16, 3)', converted[2])
    self.assertFalse(os.path.exists(f'{folder}/new'))

  def test_data_are_prepared_once(self):
    folder = self.create_tempdir().full_path
    line = ['--dataset=digits', f'--data_dir={folder}']
    for code, out, err in commands.each('prepare-data', line, line):
      self.assertEqual(code, 0, err)
      self.assertEqual(
        commands.result(out)['examples'], {'train': 600, 'test': 1197}
      )


if __name__ == '__main__':
  absltest.main()
