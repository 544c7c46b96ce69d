"""The parts of ft_tf's training that the benchmark times."""

import os
import tempfile
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ft_tf import recipe_flags, recipes, run_dir, teachers
from ft_tf.benchmark import jobs, workload
from ft_tf.data import datasets, example_sets
from ft_tf.evaluation import predictors
from ft_tf.export import student as export_student
from ft_tf.models import fused
from ft_tf.signals import cache
from ft_tf.training import (
  distillation,
  loop,
  paraphraser,
  programs,
  student,
  teacher,
)

# Rows and columns of the matrices whose product measures the machine's limit.
MATMUL = 2048


def make(job: jobs.Job) -> Callable[[int], Any]:
  """Returns a function that repeats the job's part a given number of times.

  Args:
    job: Its `part` is one of `parts()`, or 'matmul'.
  """
  if job.part == 'matmul':
    return _matmul(job)
  return parts()[job.part](workload.Workload(job))


def parts() -> dict[str, Callable[[workload.Workload], Callable[[int], Any]]]:
  """Returns the function that prepares each part, by the part's name."""
  return {
    'ft': lambda work: work.student_steps(),
    'cached': lambda work: work.student_steps(cached=True),
    'alone': lambda work: work.student_steps(recipes.SCRATCH),
    'kd': lambda work: work.student_steps('kd'),
    'teacher': _teacher,
    'paraphraser': _paraphraser,
    'evaluation': _evaluation,
    'input': _input,
    'signal': _signal,
    'forward': _forward,
    'gradients': _gradients,
    'students': _students,
    'students_cached': lambda work: _students(work, 'memory'),
  }


def _teacher(work):
  variables = work.teacher.trainable_variables
  return work.repeat(
    teacher.compile_steps(
      work.strategy,
      work.teacher,
      work.optimizer(variables),
      work.job.batch_size,
    )
  )


def _paraphraser(work):
  teacher_layer, _ = work.layers
  feature = paraphraser.compile_feature(
    work.teacher, teacher_layer, work.recipe.precision
  )
  train_steps = paraphraser.compile_steps(
    work.strategy,
    feature,
    work.paraphraser,
    work.optimizer(work.paraphraser.trainable_variables),
    'l1',
    work.job.batch_size,
  )
  return work.repeat(train_steps, labels=False)


def _evaluation(work):
  predict = predictors.KerasPredictor(work.student)
  images = work.examples.images[: work.job.batch_size]
  return lambda count: [predict(images) for _ in range(count)]


def _input(work):
  batches = iter(work.stream())
  return lambda count: [next(batches) for _ in range(count)]


def _signal(work):
  signal = work.signal(work.methods())
  return _repeat_in_graph(
    work, lambda batch: tf.reduce_sum(tf.cast(signal(batch)[0], tf.float32))
  )


def _forward(work):
  loss = _loss(work)
  return _repeat_in_graph(work, loss)


def _gradients(work):
  loss = _loss(work)
  variables = [v.value for v in work.student.trainable_variables]

  def sum_gradients(images):
    with tf.GradientTape() as tape:
      value = loss(images)
    gradients = tape.gradient(value, variables)
    # The sum uses every gradient, so that TensorFlow leaves none out.
    return tf.add_n([tf.reduce_sum(gradient) for gradient in gradients])

  return _repeat_in_graph(work, sum_gradients)


def _loss(work):
  """Returns the student's loss as a function of images.

  Labels and teacher signal are constants, so that only the student is timed.
  """
  methods = work.methods()
  signal = work.signal(methods)
  batch = work.examples.take(np.arange(work.job.batch_size))
  constants = {
    'label': tf.constant(batch.labels),
    'signal': tf.constant(signal.rows(batch.images)),
  }
  forward = distillation.make_forward(
    fused.fuse(work.student),
    methods,
    work.job.batch_size,
    signal=signal,
  )
  return lambda images: forward({'image': images, **constants})['loss']


class _Synthetic:
  """An image source of synthetic images."""

  name = 'synthetic images'
  fingerprint = ''

  def __init__(self, size: int):
    self.label_names = [str(label) for label in range(workload.CLASSES)]
    self.image_shape = (size, size, 3)

  def read(self, split: str) -> example_sets.Examples:
    count = jobs.STUDENT_IMAGES if split == 'train' else 100
    return workload.make_examples(count, self.image_shape[0])


def _students(work, cache_place='off'):
  """Returns a function that trains and exports students of seeds 0, 1, ...."""
  scratch = tempfile.TemporaryDirectory()
  files = {}
  for name in ('teacher', 'paraphraser'):
    files[name] = os.path.join(scratch.name, f'{name}.keras')
    getattr(work, name).save(files[name])
  dataset = datasets.Dataset(_Synthetic(work.job.image_size))

  loaded_teacher = teachers.load(files['teacher'], dataset)
  paraphrasers = [paraphraser.load(files['paraphraser'])]

  def run(count):
    store, compiled = cache.Store(cache_place), programs.Programs()
    for seed in range(count):
      trained = run_dir.RunDir(os.path.join(scratch.name, str(seed)))
      student.train_student(
        recipe_flags.override(
          work.recipe,
          {
            'seed': seed,
            'student_epochs': work.job.epochs,
            'student_drop_epochs': (),
          },
        ),
        dataset,
        run=trained,
        strategy=work.strategy,
        options=loop.Options(),
        signals=store,
        teacher=loaded_teacher,
        paraphrasers=paraphrasers,
        compiled=compiled,
      )
      # As the students of a comparison are exported.
      export_student.export(
        trained.model,
        dataset,
        os.path.join(trained.path, 'export'),
        is_compared=True,
      )

  return run


def _repeat_in_graph(work, function):
  """Returns a function that repeats a function of images within one graph."""
  images = tf.constant(work.examples.images[: work.job.batch_size])

  @tf.function
  def run(count):
    total = 0.0
    for _ in tf.range(count):
      # The sum makes each repetition wait for the one before.
      total += function(images)
    return total

  return lambda count: float(run(tf.constant(count)))


def _matmul(job):
  dtype = keras.DTypePolicy(job.precision).compute_dtype
  matrix = tf.cast(tf.random.stateless_normal([MATMUL] * 2, [0, 0]), dtype)
  multiply = tf.function(lambda x: tf.matmul(x, matrix))
  return lambda count: [multiply(matrix) for _ in range(count)][-1].numpy()
