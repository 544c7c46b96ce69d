"""A compression's run folders, made by hand for the tests of its report."""

import json

from absl.testing import absltest

from ft_tf import run_dir
from ft_tf.report import page

# The smallest PNG: one transparent pixel.
PNG = (
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk'
  '+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='
)
RECIPE = {
  'seed': 0,
  'data': {'dataset': 'digits', 'test_split': 'test'},
  'teacher': {'model': '/models/big.keras'},
  'student': {'model': 'resnet8x0.25', 'beta': 250.0},
}
ENVIRONMENT = {
  'command': ['python3', 'bin/compress.py', '--recipe=digits'],
  'started': '2025-01-31T12:00:00+00:00',
  'python': '3.11.7',
  'machine': 'x86_64, 2 cores',
  'packages': {'tensorflow': '2.21.0', 'keras': '3.15.1', 'other': None},
}


def export(size):
  """Returns an `export.json` whose float32 TFLite file has `size` bytes."""
  plain = {'accuracy': 0.8765, 'agreement': 0.9912, 'max_logit_difference': 0.5}
  latency = {'p50': 0.1234, 'p90': 0.2345, 'p99': 0.3456, 'threads': 1}
  return {
    'student.keras': {**plain, 'bytes': 2 * size},
    'saved_model': {**plain, 'bytes': 3 * size},
    'student_fp32.tflite': {**plain, 'bytes': size, 'latency_ms': latency},
    'student_fp16.tflite': {**plain, 'bytes': size // 2, 'latency_ms': latency},
    'student_int8.tflite': {**plain, 'bytes': size // 4, 'latency_ms': latency},
  }


def full_export(size):
  """Returns an `export.json` with all figures, of the classes cat, dog, owl."""
  full = export(size)
  steps = {
    'resizing': 'stretch',
    'sizes': [[8, 8]],
    'interpolation': 'bilinear',
    'antialias': True,
    'height': 8,
    'width': 8,
    'channels': 3,
    'dtype': 'uint8',
    'range': [0, 255],
  }
  for name, entry in full.items():
    entry |= {
      'mean_logit_difference': 0.05,
      'worst_class': {
        'label': 'dog',
        'accuracy': 0.8,
        'drop': 0.025,
        'examples': 40,
      },
      'examples': 1000,
      'preprocessing': dict(steps),
    }
    if name.endswith('.tflite'):
      image = {'dtype': 'uint8', 'shape': [1, 8, 8, 3]}
      logits = {'dtype': 'float32', 'shape': [1, 3]}
      if name == 'student_int8.tflite':
        image |= {'scale': 1.0, 'zero_point': 0}
        logits |= {'dtype': 'uint8', 'scale': 0.25, 'zero_point': 128}
      entry |= {
        'input': image,
        'output': logits,
        'input_dtype': image['dtype'],
        'output_dtype': logits['dtype'],
      }
  return full


def measured(*threads):
  """Returns a `latency.json` of one file and the teacher."""
  timings = {
    str(count): {
      'p50': 0.5 / count,
      'p90': 0.6,
      'p95': 0.65,
      'p99': 0.7,
      'runs': 200,
      'first_ms': 3.21,
    }
    for count in threads
  }
  entry = {**timings, 'peak_bytes': 4096 * 1024, 'arena_bytes': 2048}
  return {
    'processor': {'name': 'Fast One', 'cores': 2, 'features': ['avx2', 'amx']},
    'threads': list(threads),
    'files': {'student_int8.tflite': entry},
    'teacher': {**timings, 'peak_bytes': 8192 * 1024},
    'fastest': 'student_int8.tflite',
  }


def studied(names, repair=()):
  """Returns a `layers.json` of some layers."""
  loss = {
    'agreement': 0.995,
    'mean_logit_difference': 0.0123,
    'max_logit_difference': 0.5,
  }
  return {
    'examples': 256,
    'weight_scales': 'channel',
    'quantised': {**loss, 'agreement': 0.95},
    'layers': [
      {'layer': name, 'only_quantised': loss, 'only_float': loss}
      for name in names
    ],
    'repair': list(repair),
    'repaired': loss,
  }


def sample(label='7', **predictions):
  """Returns an entry of `samples.json`; models predict the label by default."""
  return {
    'png': PNG,
    'label': label,
    **{
      model: predictions.get(model, label)
      for model in ('teacher', 'student', 'int8')
    },
  }


def predictions(classes, images=8, mistakes=1):
  """Returns a `predictions.json`, where each class is taken for the next one.

  Args:
    classes: The names.
    images: The images of each class.
    mistakes: The images of a class that are taken for the next.
  """
  size = len(classes)
  cells = []
  for label in range(size):
    cells.append([label, label, images - mistakes])
    cells.append([label, (label + 1) % size, mistakes])
  return {
    'classes': list(classes),
    'confusion': sorted(cells),
    'reliability': [[size, 0.55, 0.5], [size * (images - 1), 0.95, 0.9]],
  }


class TestCase(absltest.TestCase):
  """Has the folder of a teacher and one student, as older versions left it."""

  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir()
    self.root = run_dir.RunDir(self.folder.full_path)
    self.write_json('recipe.json', RECIPE)
    self.write_json('environment.json', [ENVIRONMENT])
    self.write_json('export/export.json', export(40_000))
    self.write_json('samples.json', [sample()])
    self.write_run('teacher', 'teacher', 0, 0.95, 100_000, 120.4)
    self.write_run('student', 'ft', 0, 0.9, 5_000, 60.6)
    self.write_json('teacher/export/export.json', export(800_000))
    self.write_json(
      'paraphraser/result.json',
      {
        'reconstruction': 0.1234,
        'reconstruction_of_mean': 0.5678,
        'wall_seconds': 30.2,
      },
    )

  def write_json(self, name, value):
    self.folder.create_file(name, json.dumps(value))

  def write_run(self, name, method, seed, accuracy, parameters, seconds):
    self.write_json(
      f'{name}/result.json',
      {
        'method': method,
        'seed': seed,
        'accuracy': accuracy,
        'parameters': parameters,
        'wall_seconds': seconds,
      },
    )
    rows = [
      {
        'step': epoch,
        'epoch': epoch,
        'cross_entropy': 1 / epoch,
        **({} if method == 'teacher' else {'factor_transfer': 0.01 / epoch}),
        'validation_accuracy': value,
      }
      for epoch, value in enumerate((0.5, accuracy), start=1)
    ]
    self.folder.create_file(
      f'{name}/metrics.jsonl', ''.join(json.dumps(r) + '\n' for r in rows)
    )

  def write_predictions(self, classes):
    """Writes the predictions of all networks, as this version does."""
    self.write_json('teacher/predictions.json', predictions(classes))
    self.write_json('student/predictions.json', predictions(classes, 8, 2))
    self.write_json(
      'export/predictions.json',
      {
        'student.keras': predictions(classes, 8, 2),
        'student_int8.tflite': predictions(classes, 8, 3),
      },
    )

  def page(self):
    """Writes the page and returns its text."""
    with open(page.write(self.root), encoding='utf-8') as file:
      return file.read()
