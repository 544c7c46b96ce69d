"""Our steps, whole and in parts, ready to be timed."""

import dataclasses
import os
import tempfile
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ft_tf import (
  catalogue,
  evaluation,
  factors,
  recipes,
  run_dir,
  teachers,
)
from ft_tf.benchmark import jobs
from ft_tf.data import datasets, example_sets, views
from ft_tf.methods import registry
from ft_tf.models import layers, taps, zoo
from ft_tf.signals import cache, compiled
from ft_tf.training import (
  distillation,
  loop,
  paraphraser,
  precision,
  sgd,
  strategy,
  student,
  teacher,
)

MATMUL = 2048  # rows and columns of the products that measure the machine
_IMAGES = 2048
_CLASSES = 10


def make(job: jobs.Job) -> Callable[[int], Any]:
  """Returns what runs a part of the work a number of times.

  Args:
    job: Its `part` is one of `parts()`.
  """
  if job.part == 'matmul':
    return _matmul(job)
  return parts()[job.part](_Setting(job))


def parts() -> dict[str, Callable[['_Setting'], Callable[[int], Any]]]:
  """Returns what makes each part of a setting, by name."""
  return {
    'ft': lambda setting: setting.student_steps(),
    'cached': lambda setting: setting.student_steps(cached=True),
    'alone': lambda setting: setting.student_steps(alone=True),
    'teacher': _teacher,
    'paraphraser': _paraphraser,
    'evaluation': _evaluation,
    'input': _input,
    'signal': _signal,
    'forward': _forward,
    'gradients': _gradients,
    'students': _students,
    'students_cached': lambda setting: _students(setting, 'memory'),
  }


class _Rows:
  """The signals of some images, whatever the view: what a cache hands over."""

  def __init__(self, rows):
    self._rows = rows
    self.width = rows.shape[1]

  def read(self, of_views, examples):
    del of_views
    return self._rows[examples % len(self._rows)]


class _Setting:
  """Networks, made-up images and batches of a job."""

  def __init__(self, job):
    if job.precision == 'auto':
      job = dataclasses.replace(job, precision=precision.automatic()[0])
    self.job = job
    self.recipe = recipes.override(
      catalogue.get('cifar10_resnet56_resnet20'),
      {
        'precision': job.precision,
        'batch_size': job.batch_size,
        'teacher': job.teacher,
        'student': job.student,
      },
    )
    self.strategy = strategy.make(job.replicas)
    self.examples = synthetic(_IMAGES, job.image_size)
    spec = layers.Spec(
      self.examples.images.shape[1:],
      _CLASSES,
      self.recipe.data.mean,
      self.recipe.data.std,
      precision=job.precision,
    )
    keras.utils.set_random_seed(0)
    with self.strategy.scope():
      self.student = zoo.build(job.student, spec)
      self.teacher = trained(zoo.build(job.teacher, spec))
      self.paraphraser = factors.Paraphraser(0.5, dtype=job.precision)
      feature = taps.features(self.teacher, ['group3']).output['group3']
      self.paraphraser.build(feature.shape)
    self.feature_shape = feature.shape[1:]

  def methods(self):
    with self.strategy.scope():
      return registry.make(
        self.recipe,
        registry.Parts(
          teacher=self.teacher,
          student=self.student,
          paraphrasers=[self.paraphraser],
          examples=self.examples,
        ),
      )

  def signal(self, methods):
    return compiled.compile_signal(self.teacher, methods, self.recipe.precision)

  def optimizer(self, variables):
    with self.strategy.scope():
      optimizer, _ = sgd.make(self.recipe.student, 390.0, self.recipe.precision)
      optimizer.build(variables)
    return optimizer

  def stream(self, **kinds):
    return views.stream(
      self.examples,
      self.recipe.data,
      seed=0,
      first_step=0,
      last_step=10**7,
      **kinds,
    )

  def repeat(self, train_steps, **kinds):
    """Returns what runs compiled steps on batches of the stream."""
    batches = iter(
      self.strategy.experimental_distribute_dataset(self.stream(**kinds))
    )

    def run(count):
      return float(train_steps(batches, tf.constant(count))['loss'][-1])

    return run

  def student_steps(self, *, cached=False, alone=False):
    methods = [] if alone else self.methods()
    signal = self.signal(methods) if methods else None
    train_steps = distillation.compile_steps(
      self.strategy,
      self.student,
      methods,
      self.optimizer(distillation.trained_variables(self.student, methods)),
      distillation.make_forward(
        self.student, methods, self.job.batch_size, signal=signal
      ),
      jit=self.job.jit,
    )
    rows = None
    if cached and signal is not None:
      rows = _Rows(np.float16(signal.rows(self.examples.images[:256])))
    return self.repeat(train_steps, signals=rows)


def synthetic(count: int, size: int) -> example_sets.Examples:
  """Returns made-up images `[count, size, size, 3]`, with labels."""
  rng = np.random.default_rng(0)
  return example_sets.Examples(
    rng.integers(256, size=(count, size, size, 3), dtype=np.uint8),
    rng.integers(_CLASSES, size=count),
  )


def trained(model: keras.Model) -> keras.Model:
  """Gives batch norm offsets and means, as those of a trained network.

  At 0, where they start, a bias would be left out of the graph.
  """
  rng = np.random.default_rng(0)
  for weight in model.weights:
    if weight.name in ('beta', 'moving_mean'):
      weight.assign(0.1 * rng.normal(size=weight.shape))
  return model


def _teacher(setting):
  variables = setting.teacher.trainable_variables
  return setting.repeat(
    teacher.compile_steps(
      setting.strategy,
      setting.teacher,
      setting.optimizer(variables),
      setting.job.batch_size,
    )
  )


def _paraphraser(setting):
  feature = paraphraser.compile_feature(
    setting.teacher, 'group3', setting.recipe.precision
  )
  train_steps = paraphraser.compile_steps(
    setting.strategy,
    feature,
    setting.paraphraser,
    setting.optimizer(setting.paraphraser.trainable_variables),
    'l1',
    setting.job.batch_size,
  )
  return setting.repeat(train_steps, labels=False)


def _evaluation(setting):
  predict = evaluation.KerasPredictor(setting.student)
  images = setting.examples.images[: setting.job.batch_size]
  return lambda count: [predict(images) for _ in range(count)]


def _input(setting):
  batches = iter(setting.stream())
  return lambda count: [next(batches) for _ in range(count)]


def _signal(setting):
  signal = setting.signal(setting.methods())
  return _repeated(
    setting, lambda batch: tf.reduce_sum(tf.cast(signal(batch)[0], tf.float32))
  )


def _forward(setting):
  loss = _loss(setting)
  return _repeated(setting, loss)


def _gradients(setting):
  loss = _loss(setting)
  variables = [v.value for v in setting.student.trainable_variables]

  def gradients(images):
    with tf.GradientTape() as tape:
      value = loss(images)
    found = tape.gradient(value, variables)
    return tf.add_n([tf.reduce_sum(gradient) for gradient in found])

  return _repeated(setting, gradients)


def _loss(setting):
  """Returns images to the student's loss, the signal and the labels given."""
  methods = setting.methods()
  signal = setting.signal(methods)
  first = setting.examples.take(np.arange(setting.job.batch_size))
  given = {
    'label': tf.constant(first.labels),
    'signal': tf.constant(signal.rows(first.images)),
  }
  forward = distillation.make_forward(
    setting.student, methods, setting.job.batch_size, signal=signal
  )
  return lambda images: forward({'image': images, **given})['loss']


class _Synthetic:
  """A source of made-up images."""

  name = 'made-up images'
  fingerprint = ''

  def __init__(self, size: int):
    self.label_names = [str(label) for label in range(_CLASSES)]
    self.image_shape = (size, size, 3)

  def read(self, split: str) -> example_sets.Examples:
    count = jobs.STUDENT_IMAGES if split == 'train' else 100
    return synthetic(count, self.image_shape[0])


def _students(setting, where='off'):
  """Returns what trains students of seeds 0, 1, ... end to end."""
  scratch = tempfile.TemporaryDirectory()
  files = {}
  for name in ('teacher', 'paraphraser'):
    files[name] = os.path.join(scratch.name, f'{name}.keras')
    getattr(setting, name).save(files[name])
  dataset = datasets.Dataset(_Synthetic(setting.job.image_size))

  given_teacher = teachers.load(files['teacher'], dataset)
  paraphrasers = [paraphraser.load(files['paraphraser'])]

  def run(count):
    store = cache.Store(where)
    for seed in range(count):
      student.train_student(
        recipes.override(
          setting.recipe,
          {
            'seed': seed,
            'student_epochs': setting.job.epochs,
            'student_drop_epochs': (),
          },
        ),
        dataset,
        run=run_dir.RunDir(os.path.join(scratch.name, str(seed))),
        strategy=setting.strategy,
        options=loop.Options(),
        signals=store,
        teacher=given_teacher,
        paraphrasers=paraphrasers,
      )

  return run


def _repeated(setting, function):
  """Returns what runs a function of images, in one graph, on one batch."""
  images = tf.constant(setting.examples.images[: setting.job.batch_size])

  @tf.function
  def run(count):
    total = 0.0
    for _ in tf.range(count):
      # The sum makes each turn wait for the one before.
      total += function(images)
    return total

  return lambda count: float(run(tf.constant(count)))


def _matmul(job):
  dtype = keras.DTypePolicy(job.precision).compute_dtype
  a = tf.cast(tf.random.stateless_normal([MATMUL] * 2, [0, 0]), dtype)
  multiply = tf.function(lambda x: tf.matmul(x, a))
  return lambda count: [multiply(a) for _ in range(count)][-1].numpy()


def convolution_flops(job: jobs.Job) -> dict[str, float]:
  """Returns the convolutions' floating-point operations for one image.

  A product and its sum are two. Training costs three times the forward pass:
  the gradient of kernels and that of maps each cost as much, but for the first
  convolution's, whose input needs no gradient.

  Returns:
    `signal`, of teacher and paraphraser's encoder; `student`, of forward pass
    and gradients of student and translator; `ft`, both.
  """
  setting = _Setting(dataclasses.replace(job, replicas=1))
  height, width, channels = setting.feature_shape
  forward = [_flops(model) for model in (setting.teacher, setting.student)]
  own = taps.features(setting.student, ['group3']).output['group3'].shape[-1]
  factor = setting.paraphraser.encoder[-1].filters

  def chain(first):
    pairs = ((first, first), (first, factor), (factor, factor))
    return sum(2 * 9 * height * width * a * b for a, b in pairs)

  signal = sum(forward[0]) + chain(channels)
  trained_part = 3 * (sum(forward[1]) + chain(own)) - forward[1][0]
  return {
    'signal': float(signal),
    'student': float(trained_part),
    'ft': float(signal + trained_part),
  }


def _flops(model) -> list[int]:
  """Returns the operations of each convolution, in order."""
  return [
    2 * int(np.prod(layer.output.shape[1:3])) * int(np.prod(layer.kernel.shape))
    for layer in model.layers
    if isinstance(layer, keras.layers.Conv2D)
  ]
