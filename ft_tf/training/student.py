"""Stage 3: the student and what its method trains beside it."""

import hashlib
import sys
from typing import Any

import keras
import tensorflow as tf

from ft_tf import errors, evaluation, factors, losses, recipes, run_dir
from ft_tf.data import datasets, views
from ft_tf.methods import base, factor_transfer
from ft_tf.models import folding, fused, taps, zoo
from ft_tf.signals import cache, constant
from ft_tf.training import common, loop, monitor, precision, sgd, step


def train_student(
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  *,
  run: run_dir.RunDir,
  strategy: tf.distribute.Strategy,
  options: loop.Options,
  teacher: str | None = None,
  paraphraser: str | None = None,
  signals: cache.Store | None = None,
) -> dict[str, Any]:
  """Trains a student by the recipe's method, or returns what is there.

  Args:
    recipe: Its `data`, `student` and `seed` count.
    dataset: The images.
    run: Where to work; `model.keras` (the student alone) and `result.json` are
      there at the end.
    strategy: The devices.
    options: Intervals.
    teacher: The trained teacher's `.keras` file; `scratch` takes none.
    paraphraser: The `.keras` file of the teacher's paraphraser; likewise.
    signals: Where the teacher's signals are kept; None computes them in every
      step.

  Returns:
    The result: `accuracy` and `loss` on the test split, last epoch, computed
    in float32 as the exported student does.

  Raises:
    UsageError: the folder holds another run, the network is unknown, or
      teacher, paraphraser and student do not fit each other or the data.
    TrainingError: a loss term is not finite.
  """
  recipe = precision.settle(recipe)
  inputs = {}
  if recipe.student.method != 'scratch':
    inputs = {'teacher': teacher, 'paraphraser': paraphraser}
    for name, path in inputs.items():
      if path is None:
        raise errors.UsageError(
          f'--method={recipe.student.method} learns from a trained {name}: '
          f'give --{name}, the model.keras that bin/train_{name}.py left'
        )
  keras.utils.set_random_seed(recipe.seed)
  with strategy.scope():
    # First, so that one seed gives every method the same first weights.
    student = zoo.build(recipe.student.model, common.spec(recipe, dataset))
    methods = _load_methods(recipe, dataset, student, **inputs)
  identity = common.identity('student', recipe, **inputs)
  with common.work(run, identity, strategy, recipe, dataset) as done:
    if done:
      return done
    with strategy.scope():
      optimizer, rate = sgd.make(
        recipe.student,
        len(dataset.train) / recipe.data.batch_size,
        recipe.precision,
      )
      optimizer.build(trained_variables(student, methods))
    signal, kept = None, None
    if methods:
      signal = compile_signal(methods, dataset.image_shape)
      if signals is not None and signals.enabled:
        kept = _fill(signals, signal, recipe, dataset, identity)
    stage = loop.Stage(
      name=f'student ({recipe.student.method}, seed {recipe.seed})',
      epochs=recipe.student.epochs,
      examples=dataset.train,
      labels=True,
      signals=kept,
      train_steps=compile_steps(
        strategy,
        student,
        methods,
        optimizer,
        recipe.data.batch_size,
        signal=signal,
        jit=options.compiles_by_xla(recipe),
      ),
      state={
        'student': student,
        'adapters': [method.adapter for method in methods],
        'optimizer': optimizer,
      },
      rate=rate,
      evaluate=common.validation(student, dataset.validation),
      pictures=_pictures(student, methods, dataset),
    )
    watch = loop.run(
      stage,
      data=recipe.data,
      seed=recipe.seed,
      run=run,
      strategy=strategy,
      options=options,
    )
    scores = evaluation.evaluate(
      evaluation.KerasPredictor(folding.fold(student)), dataset.test
    )
    return common.finish(
      run,
      watch,
      student,
      scores,
      method=recipe.student.method,
      seed=recipe.seed,
    )


def trained_variables(
  student: keras.Model, methods: list[base.Method]
) -> list[keras.Variable]:
  """Returns the variables of the one optimizer: student, then adapters."""
  variables = list(student.trainable_variables)
  for method in methods:
    variables += method.adapter.trainable_variables
  return variables


def compile_signal(
  methods: list[base.Method], image_shape: tuple[int, int, int]
) -> constant.ConstantSignal:
  """Returns the frozen signals of some methods, a list, as one graph."""
  return constant.ConstantSignal(
    lambda images: [method.signal(images) for method in methods], image_shape
  )


def compile_steps(
  strategy,
  student,
  methods: list[base.Method],
  optimizer,
  batch_size,
  *,
  signal: constant.ConstantSignal | None,
  jit: bool = False,
):
  """Returns the compiled loop of student steps; see `loop.Stage`.

  The loss is cross entropy plus each method's weight times its loss (paper,
  equation 5), a mean over the global batch. Terms are logged unweighted. A
  batch that carries signals is not shown to the teacher.
  """
  outputs = taps.logits_and_features(
    fused.fuse(student),
    [layer for method in methods for layer in method.student_layers],
  )

  def forward(batch):
    if not methods:
      signals = []
    elif 'signal' in batch:
      signals = signal.from_rows(batch['signal'])
    else:
      signals = signal(batch['image'])
    logits, features = outputs(batch['image'], training=True)
    terms = {
      'cross_entropy': _mean(losses.cross_entropy(logits, batch['label']))
    }
    loss = terms['cross_entropy']
    for method, said in zip(methods, signals, strict=True):
      terms[method.name] = _mean(method.loss(method.adapt(features), said))
      loss += method.weight * terms[method.name]
    return {
      'loss': loss,
      **terms,
      'train_accuracy': common.hits(logits, batch['label']) / batch_size,
    }

  def _mean(each):
    return tf.reduce_sum(each) / batch_size

  return step.compile_steps(
    strategy,
    forward,
    terms=(
      'loss',
      'cross_entropy',
      *(method.name for method in methods),
      'train_accuracy',
    ),
    models=[student, *(method.adapter for method in methods)],
    optimizer=optimizer,
    jit=jit,
  )


def _fill(store, signal, recipe, dataset, identity) -> cache.Signals:
  """Returns the signals of every view that the student will train on."""
  data, images = recipe.data, dataset.train.images
  key = {
    'methods': recipe.student.method,
    'precision': recipe.precision,
    'teacher_sha256': identity['teacher_sha256'],
    'paraphraser_sha256': identity['paraphraser_sha256'],
    'images_sha256': hashlib.sha256(images).hexdigest(),
    'shape': images.shape,
    'views': {
      name: getattr(data, name) for name in ('pad', 'flip', 'view_seed')
    },
  }
  kept = store.open(key, examples=len(images), width=signal.width)
  epochs = recipe.student.epochs
  kept.fill(
    range(min(epochs, data.views or epochs)),
    lambda number: (
      signal.rows(batch)
      for batch in views.view(dataset.train, data, number).as_numpy_iterator()
    ),
    lambda line: print(line, file=sys.stderr, flush=True),
  )
  return kept


def make_methods(
  recipe: recipes.Recipe,
  *,
  student: keras.Model,
  teacher: keras.Model,
  paraphraser: factors.Paraphraser,
) -> list[base.Method]:
  """Returns the distillation terms of a method that learns from a teacher.

  Raises:
    UsageError: teacher, paraphraser and student do not fit each other.
  """
  return [
    factor_transfer.FactorTransfer(
      teacher=teacher,
      paraphraser=paraphraser,
      student=student,
      beta=recipe.student.beta,
      p=recipe.student.p,
      precision=recipe.precision,
    )
  ]


def _load_methods(
  recipe, dataset, student, teacher=None, paraphraser=None
) -> list[base.Method]:
  """Returns the distillation terms of the recipe's method; scratch has none."""
  if recipe.student.method == 'scratch':
    return []
  loaded = common.load_teacher(teacher, dataset)
  paraphrase = zoo.load(paraphraser)
  if not isinstance(paraphrase, factors.Paraphraser):
    raise errors.UsageError(
      f'--paraphraser={paraphraser} is not a paraphraser: give the model.keras '
      'that bin/train_paraphraser.py left'
    )
  return make_methods(
    recipe, student=student, teacher=loaded, paraphraser=paraphrase
  )


def _pictures(student, methods, dataset):
  """Returns a function that shows the first method's maps, if it has any."""
  if not methods:
    return lambda: None
  method = methods[0]
  features = taps.features(student, method.student_layers)

  @tf.function
  def maps(images):
    pair = method.signal(images), method.adapt(features(images, training=False))
    return tf.nest.map_structure(lambda t: tf.cast(t, tf.float32), pair)

  images = common.pictured(dataset)

  def pictures():
    teachers, students = maps(tf.constant(images))
    return monitor.mosaic(images, teachers.numpy(), students.numpy())

  return pictures
