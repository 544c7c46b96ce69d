"""Whole files of every format that commands read, small and quickly made."""

import os
import shutil
import tempfile

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from safetensors import numpy as safetensors

from ft_tf import run_dir
from ft_tf.data import builders
from ft_tf.export import folder as export_folder
from tests.faults import mutations, sandbox

_SHAPE, _CLASSES = (8, 8, 1), 10
_FORMATS = {'strange': 'tfrecord', 'strange_arrays': 'array_record'}
# Data sets that TFDS reads from their files alone: how often one is drawn, its
# name, and the flags of commands that read it.
DATA_SETS = tuple(
  (often, name, (f'--dataset={name}', '--data_dir={data}'))
  for often, name in zip((3, 2), _FORMATS, strict=True)
)


def make(box: sandbox.Sandbox) -> None:
  """Fills `inputs/` and `data/` of a sandbox."""
  inputs, data = box.path('inputs'), box.path('data')
  keras.utils.set_random_seed(0)
  model = _model()
  model.save(f'{inputs}/m.keras')
  _with_lambda().save(f'{inputs}/lambda.keras')
  model.save_weights(f'{inputs}/m.weights.h5')
  pretrained = _pretrained()
  pretrained.save_weights(f'{inputs}/mobilenet.weights.h5')
  for kind in ('h5', 'keras'):
    pretrained.save(f'{inputs}/mobilenet.{kind}')
  model.export(f'{inputs}/saved', verbose=False)
  converter = tf.lite.TFLiteConverter.from_saved_model(f'{inputs}/saved')
  with open(f'{inputs}/m.tflite', 'wb') as file:
    file.write(converter.convert())
  arrays = _arrays()
  np.savez(f'{inputs}/w.npz', **arrays)
  safetensors.save_file(arrays, f'{inputs}/w.safetensors')
  _write_pickle(f'{inputs}/w.pth')
  _write_images(f'{inputs}/images')
  _write_odd_paths(inputs)
  _write_run(f'{inputs}/run', f'{inputs}/m.keras', f'{inputs}/m.tflite')
  builders.prepare('digits', data_dir=data)
  for name, file_format in _FORMATS.items():
    _write_data(f'{data}/{name}', file_format)
  with open(box.path('home', f'{mutations.EVIL}.py'), 'w') as module:
    module.write("open('escape', 'w').close()\nImage = object\n")


def _write_data(path, file_format):
  """Writes the digits as a data set with the name of its folder."""
  name = os.path.basename(path)
  with tempfile.TemporaryDirectory() as prepared:
    builders.prepare('digits', data_dir=prepared, file_format=file_format)
    shutil.move(f'{prepared}/digits', path)
  version = f'{path}/1.0.0'
  for old in os.listdir(version):
    os.rename(f'{version}/{old}', f'{version}/{old.replace("digits", name)}')
  info = f'{version}/dataset_info.json'
  with open(info, encoding='utf-8') as file:
    text = file.read()
  with open(info, 'w', encoding='utf-8') as file:
    file.write(text.replace('"digits"', f'"{name}"'))


def _model():
  image = keras.Input(_SHAPE, dtype='uint8')
  x = keras.layers.Rescaling(1 / 255)(image)
  x = keras.layers.Conv2D(4, 3, padding='same', name='first')(x)
  x = keras.layers.BatchNormalization()(x)
  x = keras.layers.ReLU()(x)
  x = keras.layers.MaxPooling2D()(x)
  x = keras.layers.Conv2D(6, 3, padding='same', activation='relu')(x)
  x = keras.layers.GlobalAveragePooling2D()(x)
  return keras.Model(image, keras.layers.Dense(_CLASSES, name='logits')(x))


def _pretrained():
  """Returns a network of keras.applications, whose weights flags take."""
  return keras.applications.MobileNet(
    input_shape=(32, 32, 1),
    alpha=0.25,
    weights=None,
    classes=_CLASSES,
    classifier_activation=None,
  )


def _with_lambda():
  image = keras.Input(_SHAPE)
  x = keras.layers.Lambda(lambda x: 2 * x)(image)
  x = keras.layers.Conv2D(4, 3)(x)
  x = keras.layers.GlobalAveragePooling2D()(x)
  return keras.Model(image, keras.layers.Dense(_CLASSES)(x))


def _arrays() -> dict[str, np.ndarray]:
  """Returns the state dict of a `resnet8x0.25` as PyTorch's codes name it."""
  rng = np.random.default_rng(0)
  arrays = {}

  def add(name, *shape):
    arrays[name] = rng.normal(size=shape).astype(np.float32)

  def norm(name, width):
    for part in ('weight', 'bias', 'running_mean'):
      add(f'{name}.{part}', width)
    arrays[f'{name}.running_var'] = np.ones(width, np.float32)

  add('conv1.weight', 4, 1, 3, 3)
  norm('bn1', 4)
  before = 4
  for group, width in enumerate((4, 8, 16), start=1):
    for number, inputs in ((1, before), (2, width)):
      add(f'layer{group}.0.conv{number}.weight', width, inputs, 3, 3)
      norm(f'layer{group}.0.bn{number}', width)
    if before != width:
      add(f'layer{group}.0.shortcut.0.weight', width, before, 1, 1)
      norm(f'layer{group}.0.shortcut.1', width)
    before = width
  add('linear.weight', _CLASSES, 16)
  add('linear.bias', _CLASSES)
  return arrays


def _write_pickle(path):
  """Writes a pickle that would call a function."""
  with open(path, 'wb') as file:
    file.write(b"cos\nsystem\n(S'touch escape'\ntR.")


def _write_images(folder):
  rng = np.random.default_rng(0)
  kinds = ('png', 'jpg', 'bmp', 'gif', 'webp', 'tiff', 'png', 'jpg')
  for label in ('cat', 'dog'):
    os.makedirs(f'{folder}/{label}')
    for number, kind in enumerate(kinds):
      image = rng.integers(255, size=(12, 9, 3), dtype=np.uint8)
      Image.fromarray(image).save(f'{folder}/{label}/{number}.{kind}')


def _write_odd_paths(inputs):
  os.mkdir(f'{inputs}/empty')
  os.mkfifo(f'{inputs}/pipe')
  os.mkfifo(f'{inputs}/pipe.keras')
  os.symlink('nowhere', f'{inputs}/broken')
  os.symlink('loop', f'{inputs}/loop')
  with open(f'{inputs}/text', 'w', encoding='utf-8') as file:
    file.write('--seed=3\n--rate=0.5\n')
  with open(os.fsencode(f'{inputs}/') + b'caf\xe9.keras', 'wb') as file:
    file.write(b'\x89\xff\0')


def _write_run(folder, model, tflite):
  """Writes a complete compression, without its checkpoints.

  Args:
    folder: Of the run.
    model: A `.keras` file for all of its networks.
    tflite: Likewise.
  """
  row = {'step': 4, 'epoch': 1.0, 'loss': 2.3, 'validation_accuracy': 0.1}
  result = {'method': 'ft', 'seed': 0, 'accuracy': 0.1, 'loss': 2.3, 'steps': 4}
  result |= {'parameters': 300, 'wall_seconds': 1.0}
  recipe = {'seed': 0, 'data': {'dataset': 'digits', 'image_size': 8}}
  for stage, name in (('teacher', 'resnet8x0.5'), ('student', 'resnet8x0.25')):
    run = run_dir.RunDir(f'{folder}/{stage}')
    os.makedirs(run.path)
    stage_recipe = {'stage': stage, **recipe, stage: {'model': name}}
    stage_recipe['data'] = {**recipe['data'], 'resizing': 'crop'}
    run.write('recipe.json', stage_recipe)
    run.write('environment.json', [{'command': ['ft-tf'], 'versions': {}}])
    run.append_metrics(row)
    run.append_metrics({**row, 'step': 8})
    run.write('result.json', {**result, 'method': stage})
    shutil.copy(model, run.model)
  run = run_dir.RunDir(folder)
  run.write('recipe.json', recipe)
  run.write('result.json', result)
  export = run_dir.RunDir(f'{folder}/export')
  os.makedirs(export.path)
  shutil.copy(model, f'{export.path}/student.keras')
  shutil.copy(tflite, f'{export.path}/student_fp32.tflite')
  tensor = {'dtype': 'uint8', 'shape': [1, *_SHAPE]}
  preprocessing = {'resizing': 'crop', 'sizes': [[8, 8]]}
  preprocessing |= {'height': 8, 'width': 8, 'channels': 1}
  figures = {
    name: {
      'bytes': os.path.getsize(f'{export.path}/{name}'),
      'accuracy': 0.1,
      'agreement': 0.9,
      'examples': 1197,
      'preprocessing': preprocessing,
      'input': tensor,
      'output': {'dtype': 'float32', 'shape': [1, _CLASSES]},
      'latency_ms': {'p50': 0.1, 'threads': 1},
    }
    for name in ('student.keras', 'student_fp32.tflite')
  }
  export.write('export.json', figures)
  made_of = export_folder.describe_source(
    f'{folder}/student/model.keras', 'channel', None, {}
  )
  del made_of['tested_on_sha256']  # as of an earlier version
  export.write(export_folder.MADE_OF, made_of | {'formats': ['fp32']})
  with open(f'{export.path}/labels.txt', 'w', encoding='utf-8') as file:
    file.writelines(f'{n}\n' for n in range(_CLASSES))


def files(folder: str) -> list[str]:
  """Returns the regular files in a folder and below it, relative to it."""
  return sorted(
    os.path.relpath(os.path.join(root, name), folder)
    for root, _, names in os.walk(folder)
    for name in names
    if os.path.isfile(os.path.join(root, name)) and not name.endswith('.lock')
  )


def read(path: str) -> bytes:
  with open(path, 'rb') as file:
    return file.read()
