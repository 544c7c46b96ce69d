"""Stage 1: the teacher, by cross entropy."""

import dataclasses
import shutil
import sys
from typing import Any

import keras
import tensorflow as tf

from ft_tf import evaluation, losses, recipes, run_dir
from ft_tf.data import datasets
from ft_tf.models import folding, fused
from ft_tf.training import common, loop, precision, sgd, step

TERMS = ('loss', 'cross_entropy', 'train_accuracy')
_DOUBTFUL = 2.0  # times chance, which a given teacher should be far above


def obtain_teacher(
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  *,
  run: run_dir.RunDir,
  strategy: tf.distribute.Strategy,
  options: loop.Options,
) -> dict[str, Any]:
  """Trains the recipe's teacher, or takes one that is trained.

  That is a `.keras` file, or a network of keras.applications and weights with a
  head of the data's classes. It is laid into the run folder, from raw images to
  logits and without models in it, and measured on the test split. Arguments,
  result and errors are those of `train_teacher`.
  """
  if not common.is_given(recipe.teacher, dataset):
    return train_teacher(
      recipe, dataset, run=run, strategy=strategy, options=options
    )
  path = common.teacher_file(recipe.teacher)
  identity = {
    'stage': 'teacher',
    'data': dataclasses.asdict(recipe.data),
    'teacher': {
      name: getattr(recipe.teacher, name)
      for name in (
        'model',
        'teacher_outputs',
        'teacher_weights',
        'preprocessing',
      )
    },
    'teacher_sha256': run_dir.digest(path),
  }
  with common.work(run, identity, strategy, recipe, dataset) as done:
    if done:
      return done
    model, as_given = common.load_given_teacher(recipe.teacher, dataset)
    if as_given:
      with run_dir.replacing(run.model) as copy:
        shutil.copyfile(path, copy)
    else:
      common.save(run.model, model)
    outputs = evaluation.logits(
      evaluation.KerasPredictor(model, given=path), dataset.test.images
    )
    scores = common.scores(outputs, dataset.test.labels)
    print(
      f'teacher: {path}, test accuracy {scores["accuracy"]:.4f}',
      file=sys.stderr,
      flush=True,
    )
    if scores['accuracy'] < _DOUBTFUL / len(dataset.label_names):
      print(
        'teacher: that is hardly better than chance: are the classes in '
        f'the order {", ".join(dataset.label_names[:4])}, ..., and is '
        f'--preprocessing={recipe.teacher.preprocessing} right?',
        file=sys.stderr,
        flush=True,
      )
    result = {
      'method': 'teacher',
      'seed': None,
      **scores,
      'parameters': common.parameters(model),
      'steps': 0,
      'wall_seconds': 0.0,
    }
    run.write('result.json', result)
    return result


def train_teacher(
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  *,
  run: run_dir.RunDir,
  strategy: tf.distribute.Strategy,
  options: loop.Options,
) -> dict[str, Any]:
  """Trains the recipe's teacher network; continues or returns what is there.

  Args:
    recipe: Its `data`, `teacher` and `seed` count.
    dataset: The images.
    run: Where to work; `model.keras` and `result.json` are there at the end.
    strategy: The devices.
    options: Intervals.

  Returns:
    The result: `accuracy` and `loss` on the test split, last epoch.

  Raises:
    UsageError: the folder holds another run, or the network is unknown.
    TrainingError: the loss is not finite.
  """
  recipe = precision.settle(recipe)
  path = common.teacher_file(recipe.teacher)
  identity = common.identity(
    'teacher', recipe, **({'teacher': path} if path else {})
  )
  spec = common.spec(recipe, dataset)
  with common.work(run, identity, strategy, recipe, dataset) as done:
    if done:
      return done
    if recipe.teacher.teacher_weights:
      common.say_weights(
        recipe.teacher, 'is where training starts, but for a fresh head'
      )
    keras.utils.set_random_seed(recipe.seed)
    with strategy.scope():
      teacher = common.build_teacher(recipe, spec)
      optimizer, rate = sgd.make(
        recipe.teacher,
        len(dataset.train) / recipe.data.batch_size,
        recipe.precision,
      )
      optimizer.build(teacher.trainable_variables)
    stage = loop.Stage(
      name='teacher',
      epochs=recipe.teacher.epochs,
      examples=dataset.train,
      labels=True,
      train_steps=compile_steps(
        strategy,
        teacher,
        optimizer,
        recipe.data.batch_size,
        jit=options.compiles_by_xla(recipe),
      ),
      state={'teacher': teacher, 'optimizer': optimizer},
      rate=rate,
      evaluate=common.validation(teacher, dataset.validation),
      pictures=lambda: None,
      precision=recipe.precision,
    )
    watch = loop.run(
      stage,
      data=recipe.data,
      seed=recipe.seed,
      run=run,
      strategy=strategy,
      options=options,
    )
    outputs = evaluation.logits(
      evaluation.KerasPredictor(folding.fold(teacher)), dataset.test.images
    )
    scores = common.scores(outputs, dataset.test.labels)
    return common.finish(
      run, watch, teacher, scores, method='teacher', seed=recipe.seed
    )


def compile_steps(strategy, teacher, optimizer, batch_size, *, jit=False):
  """Returns the compiled loop of teacher steps; see `loop.Stage`."""
  training = fused.fuse(teacher)

  def forward(batch):
    logits = training(batch['image'], training=True)
    cross_entropy = losses.cross_entropy(logits, batch['label'])
    loss = tf.reduce_sum(cross_entropy) / batch_size
    return {
      'loss': loss,
      'cross_entropy': loss,
      'train_accuracy': common.hits(logits, batch['label']) / batch_size,
    }

  return step.compile_steps(
    strategy,
    forward,
    terms=TERMS,
    models=[teacher],
    optimizer=optimizer,
    jit=jit,
  )
