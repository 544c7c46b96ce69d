"""Stage 1: the teacher, trained by cross entropy or taken as it is given."""

import shutil
import sys
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ft_tf import losses, recipes, run_dir, specs, storage, teachers
from ft_tf.data import datasets, mixing
from ft_tf.evaluation import metrics, predictors
from ft_tf.models import folding, fused, origins
from ft_tf.progress import reporter
from ft_tf.training import (
  averaging,
  class_weights,
  loop,
  optimizers,
  precision,
  stage,
  step,
)

TERMS = ('loss', 'cross_entropy', 'train_accuracy')
_DOUBTFUL = 2.0  # times chance, which a given teacher should be far above


def obtain_teacher(
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  *,
  run: run_dir.RunDir,
  strategy: tf.distribute.Strategy,
  options: loop.Options,
  given: teachers.Teacher | None = None,
  progress: reporter.Progress | None = None,
) -> teachers.Teacher:
  """Returns the teacher: the given one, put into the run, or a trained one.

  Args:
    recipe: Its `data`, `teacher` and `seed` count.
    dataset: The images.
    run: Where to work; `model.keras` and `result.json` are there at the end.
    strategy: The devices.
    options: Intervals.
    given: The value of `teachers.resolve`; None: the recipe's network is
      trained.
    progress: As of `stage.run_stage`.

  Raises:
    UsageError: the folder holds another run, or a part does not fit.
    TrainingError: the loss is not finite.
  """
  if given is not None:
    progress = progress or reporter.Progress(mode=options.progress)
    with progress.part(run.path, 'teacher') as part:
      return _put_into(run, given, recipe, dataset, strategy, part)
  train_teacher(
    recipe,
    dataset,
    run=run,
    strategy=strategy,
    options=options,
    progress=progress,
  )
  return teachers.load(run.model, dataset)


def _put_into(
  run: run_dir.RunDir,
  teacher: teachers.Teacher,
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  strategy: tf.distribute.Strategy,
  part: reporter.Running,
) -> teachers.Teacher:
  """Writes a given teacher and its figures into a run's folder."""
  settings = recipe.teacher
  path = teachers.source_file(settings)
  identity = {
    'stage': 'teacher',
    'data': recipes.identity(recipe)['data'],
    'teacher': {
      name: getattr(settings, name)
      for name in (
        'model',
        'teacher_outputs',
        'teacher_weights',
        'preprocessing',
      )
    },
    'teacher_sha256': run_dir.digest(path),
  }
  with stage.claim(run, identity, strategy, recipe, dataset) as complete:
    if complete:
      return teacher.stored_at(run.model)
    if teacher.path:
      with storage.replacing(run.model) as copy:
        shutil.copyfile(teacher.path, copy)
    else:
      stage.save(run.model, teacher.model)
    part.status('testing')
    outputs = teacher.logits(dataset.test)
    scores = stage.score_test_split(run, outputs, dataset)
    part.end(f'{path}, test accuracy {100 * scores["accuracy"]:.2f} %')
    if scores['accuracy'] < _DOUBTFUL / len(dataset.label_names):
      part.say(
        'teacher: that is hardly better than chance: are the classes in '
        f'the order {", ".join(dataset.label_names[:4])}, ..., and is '
        f'--preprocessing={settings.preprocessing} right?'
      )
    run.write(
      'result.json',
      {
        'method': 'teacher',
        'seed': None,
        **scores,
        'parameters': specs.count_parameters(teacher.model),
        'steps': 0,
        'wall_seconds': 0.0,
      },
    )
    return teacher.stored_at(run.model)


def train_teacher(
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  *,
  run: run_dir.RunDir,
  strategy: tf.distribute.Strategy,
  options: loop.Options,
  progress: reporter.Progress | None = None,
) -> dict[str, Any]:
  """Trains the recipe's teacher network; continues or returns what is there.

  Args:
    recipe: Its `data`, `teacher` and `seed` count.
    dataset: The images.
    run: Where to work; `model.keras` and `result.json` are there at the end.
    strategy: The devices.
    options: Intervals.
    progress: As of `stage.run_stage`.

  Returns:
    The result: `accuracy` and `loss` on the test split, last epoch.

  Raises:
    UsageError: the folder holds another run, or the network is unknown.
    TrainingError: the loss is not finite.
  """
  return stage.run_stage(
    _TeacherStage(recipe, dataset),
    run=run,
    strategy=strategy,
    options=options,
    progress=progress,
  )


class _TeacherStage(stage.Stage):
  """The network that a recipe names, by the labels' cross entropy alone."""

  method = name = 'teacher'

  def __init__(self, recipe, dataset):
    self.recipe = precision.settle(recipe)
    self.dataset = dataset
    self._spec = specs.spec(self.recipe, dataset)
    self.class_weights = class_weights.of(recipe, dataset)

  def identity(self):
    path = teachers.source_file(self.recipe.teacher)
    digests = {'teacher': run_dir.digest(path)} if path else {}
    return stage.identity('teacher', self.recipe, **digests)

  def build(self, strategy):
    start = teachers.describe_start(self.recipe.teacher, self.dataset)
    if start:
      print(f'teacher: {start}', file=sys.stderr, flush=True)
    with strategy.scope():
      self.model = teachers.build(self.recipe, self._spec)

  def prepare(self, run, strategy, options, part):
    recipe, dataset = self.recipe, self.dataset
    with strategy.scope():
      optimizer, rate = optimizers.make(
        recipe.teacher,
        len(dataset.train) / recipe.data.batch_size,
        recipe.precision,
        origins.backbone(self.model),
      )
      optimizer.build(self.model.trainable_variables)
      average = averaging.make([self.model], recipe.teacher.ema)
    return loop.Training(
      method=self.method,
      epochs=recipe.teacher.epochs,
      examples=dataset.train,
      labels=True,
      train_steps=compile_steps(
        strategy,
        self.model,
        optimizer,
        recipe.data.batch_size,
        jit=options.compiles_by_xla(recipe),
        weights=self.class_weights,
        average=average,
      ),
      average=average,
      state={'teacher': self.model, 'optimizer': optimizer},
      rate=rate,
      evaluate=stage.validation(self.model, dataset.validation),
      pictures=lambda: None,
      precision=recipe.precision,
    )

  def score(self, run):
    predict = predictors.KerasPredictor(folding.fold(self.model))
    outputs = metrics.logits(predict, self.dataset.test.images)
    return stage.score_test_split(run, outputs, self.dataset)


def compile_steps(
  strategy: tf.distribute.Strategy,
  teacher: keras.Model,
  optimizer: keras.optimizers.Optimizer,
  batch_size: int,
  *,
  jit: bool = False,
  weights: np.ndarray | None = None,
  average: averaging.Average | None = None,
) -> step.Steps:
  """Returns the compiled loop of teacher steps; see `loop.Training`.

  Args:
    strategy: The devices.
    teacher: The network.
    optimizer: Built on its trainable variables.
    batch_size: The global batch.
    jit: As of `step.compile_steps`.
    weights: As of `class_weights.of`.
    average: As of `step.compile_steps`.
  """
  training = fused.fuse(teacher)

  def forward(batch):
    logits = training(batch['image'], training=True)
    cross_entropy = mixing.over_labels(
      batch, lambda labels: losses.cross_entropy(logits, labels, weights)
    )
    correct = mixing.over_labels(
      batch, lambda labels: step.find_correct(logits, labels)
    )
    loss = tf.reduce_sum(cross_entropy) / batch_size
    return {
      'loss': loss,
      'cross_entropy': loss,
      'train_accuracy': tf.reduce_sum(correct) / batch_size,
    }

  return step.compile_steps(
    strategy,
    forward,
    terms=TERMS,
    models=[teacher],
    optimizer=optimizer,
    jit=jit,
    average=average,
  )
