"""Stage 4: the student trained further while it computes as in int8.

All terms of the student's loss go on (paper, equation 5), with the feature maps
that the quantised student has. Weights and ranges of activations are learned;
batch norm uses its moving statistics, which stand still. It is trained by SGD
whatever trained the student; after AdamW without weight decay.
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from ft_tf import errors, json_files, recipes, run_dir, teachers
from ft_tf.data import datasets, sampling
from ft_tf.evaluation import metrics, predictors
from ft_tf.models import checks, folding, model_files, rebuilding
from ft_tf.progress import reporter
from ft_tf.quantisation import twin
from ft_tf.signals import cache
from ft_tf.training import (
  beta,
  loop,
  optimizers,
  paraphraser,
  precision,
  stage,
  student_stage,
)

_OBSERVED = 512  # training images that set the first ranges
# Norms that gradients are clipped to. Batch norm stands still and does not
# bound those of the weights, which explode if rounding has spoilt the network.
# A range's is a sum over all values that it cuts off, of a whole batch of maps.
_WEIGHTS_NORM = 5.0
_RANGES_NORM = 1.0


def check(recipe: recipes.Recipe, network: keras.Model) -> None:
  """Raises `UsageError` if a student has layers that a twin does not know.

  Args:
    recipe: What to run; without epochs of this stage nothing is checked.
    network: The student, trained or not.
  """
  if recipe.qat.epochs:
    _twin(recipe, rebuilding.rebuild(network, precision='float32'))


@json_files.explains
def read_ranges(run: run_dir.RunDir) -> dict[str, tuple[float, float]] | None:
  """Returns the ranges that a run has learned, by place; None: it has none."""
  ranges = run.read(run_dir.RANGES)
  if ranges is None:
    return None
  return {place: (low, high) for place, (low, high) in ranges.items()}


def train_quantised(
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  *,
  trained: run_dir.RunDir,
  run: run_dir.RunDir,
  strategy: tf.distribute.Strategy,
  options: loop.Options,
  teacher: teachers.Teacher | None = None,
  paraphrasers: Sequence[paraphraser.TrainedParaphraser] = (),
  signals: cache.Store | None = None,
  label: str | None = None,
  progress: reporter.Progress | None = None,
  in_float: bool = False,
) -> dict[str, Any]:
  """Continues a student in simulated int8, or returns what is there.

  The network computes in float32, the terms' adapters and the teacher in the
  recipe's precision (in float32 if that is float16).

  Args:
    recipe: The student's, with `qat.epochs`.
    dataset: The images.
    trained: The complete run of the student, whose adapters go on too.
    run: Where to work; `model.keras` (the student alone, in plain Keras),
      `ranges.json` and `result.json` are there at the end.
    strategy: The devices.
    options: Intervals.
    teacher: As of `student.train_student`, like the others.
    paraphrasers: The teacher's.
    signals: Where the teacher's signals are kept.
    label: What the result calls the method; its own name if None.
    progress: As of `stage.run_stage`.
    in_float: Trains the same steps without quantisation: a control to compare
      with. Then there is no `ranges.json`.

  Returns:
    The result: the figures of `metrics.test_scores` on the test split as in
    int8, after the last epoch; `float_accuracy` and `float_loss`, of the
    plain student; with a teacher `teacher_agreement` and `teacher_divergence`.

  Raises:
    UsageError: there is no trained student, it has layers that a twin does not
      know, its method is Keras's own, or the folder holds another run.
    TrainingError: a loss term is not finite.
  """
  return stage.run_stage(
    _QuantisedStage(
      recipe,
      dataset,
      teacher,
      paraphrasers,
      signals,
      label,
      trained=trained,
      in_float=in_float,
    ),
    run=run,
    strategy=strategy,
    options=options,
    progress=progress,
  )


class _QuantisedStage(student_stage.StudentStage):
  """The student's stage with a quantisation twin as the network that runs."""

  def __init__(self, recipe, *parts, trained, in_float):
    recipe = precision.settle(recipe)
    if recipe.precision == 'mixed_float16':
      # Its gradients need a scaled loss, which the ranges' clipping undoes.
      recipe = dataclasses.replace(recipe, precision='float32')
    super().__init__(recipe, *parts)
    self.name = f'{"continued" if in_float else "qat"} {self.method} seed ' + (
      str(recipe.seed)
    )
    self._trained = trained
    self._in_float = in_float
    if not os.path.exists(trained.model):
      raise errors.UsageError(
        f'{trained.path} has no trained student for --qat_epochs to continue: '
        'give the --workdir of one'
      )

  def identity(self):
    digests = {'trained': run_dir.digest(self._trained.model)}
    # Its terms, and what they are computed from.
    student_stage = super().identity()
    inherited = {
      key: value
      for key, value in student_stage.items()
      if key == 'student' or key.endswith('_sha256')
    }
    control = {'in_float': True} if self._in_float else {}
    return {
      **inherited,
      **stage.identity('qat', self.recipe, **digests),
      **control,
    }

  def build(self, strategy):
    loaded = model_files.load(self._trained.model)
    checks.check_finite(loaded, self._trained.model)
    with strategy.scope():
      self.model = rebuilding.rebuild(loaded, precision='float32')
      self._twin = None if self._in_float else _twin(self.recipe, self.model)
      self.methods = []
      if recipes.terms(self.recipe.student.method):
        self.methods = self.make_methods()
      for method in self.methods:
        if method.adapter is not None:
          self._continue_adapter(method)

  def _continue_adapter(self, method):
    """Gives an adapter the weights that the student's run trained."""
    file = student_stage.ADAPTER.format(method.name)
    path = os.path.join(self._trained.path, file)
    if not os.path.exists(path):
      raise errors.UsageError(
        f'{path} is missing, which --qat_epochs continues from: train the '
        'student in another --workdir'
      )
    method.adapter.set_weights(model_files.load(path).get_weights())

  @property
  def moved(self):
    return self.model if self._twin is None else self._twin.model

  def network(self):
    return super().network() if self._twin is None else self._twin.model

  def describe_start(self):
    return ''  # The student's run has said it.

  def optimizer(self, steps_per_epoch):
    settings, qat = self.recipe.student, self.recipe.qat
    # Always by SGD, of all layers alike: none of them is fresh any more.
    # Decoupled decay has numbers a hundred times larger: they are not SGD's.
    decay = settings.weight_decay * (settings.optimizer == recipes.SGD)
    optimizer, rate = optimizers.make(
      recipes.Optimization(
        epochs=qat.epochs,
        learning_rate=qat.learning_rate,
        momentum=settings.momentum,
        weight_decay=decay,
        weight_decay_on=settings.weight_decay_on,
        decay='cosine',
      ),
      steps_per_epoch,
    )
    if self._twin is not None:
      optimizer = _ClippedSGD(
        rate,
        momentum=settings.momentum,
        coupled_weight_decay=decay,
        weight_decay_on=settings.weight_decay_on,
        ranges=self._twin.ranges,
      )
    return optimizer, rate

  def average(self):
    return None  # The student's run has averaged what is continued here.

  def settle_beta(self, measure, run):
    # The student's run has measured it.
    beta.settle_beta(self.recipe, self.methods, measure, self._trained)

  def prepare(self, run, strategy, options, part):
    if self._twin is not None:
      part.status('observing ranges')
      seen = sampling.sample(self.seen.train, _OBSERVED)
      try:
        self._twin.observe(seen.images[:])
      except errors.UsageError as error:
        # Of the student's training, not of what the user gave.
        raise errors.TrainingError(
          f'{error}; the student before is {self._trained.model}'
        ) from error
    return dataclasses.replace(
      super().prepare(run, strategy, options, part),
      epochs=self.recipe.qat.epochs,
      keep_best=lambda: None,
    )

  def score(self, run):
    test = self.seen.test
    in_float = metrics.logits(
      predictors.KerasPredictor(folding.fold(self.model)), test.images
    )
    outputs = in_float
    if self._twin is not None:
      run.write(
        run_dir.RANGES,
        {
          place: [float(low), float(high)]
          for place, (low, high) in self._twin.ranges_by_place().items()
        },
      )
      outputs = metrics.logits(
        predictors.KerasPredictor(self._twin.model), test.images
      )
    scores = stage.score_test_split(run, outputs, self.seen)
    float_scores = metrics.score(in_float, test.labels)
    scores |= {f'float_{k}': float_scores[k] for k in ('accuracy', 'loss')}
    if self.teacher is not None:
      of_teacher = self.teacher.logits(self.dataset.test)
      scores |= metrics.likeness(outputs, of_teacher)
    return scores


class _ClippedSGD(optimizers.CoupledSGD):
  """`CoupledSGD` with clipped gradients, and no decay of the ranges.

  A decayed range would shrink to nothing where no value reaches its end.
  """

  def __init__(self, *arguments: Any, ranges: Any, **options: Any):
    """Takes SGD's numbers, and which of the variables are ranges."""
    super().__init__(*arguments, **options)
    self._range_ids = frozenset(map(id, ranges))
    self._places: tuple[int, ...] = ()

  def build(self, variables):
    if not self.built:
      self._places = tuple(
        place
        for place, variable in enumerate(variables)
        if id(variable) in self._range_ids
      )
    super().build(variables)

  def decay_of(self, index):
    return 0.0 if index in self._places else super().decay_of(index)

  def apply(self, grads, trainable_variables=None):
    # The norms are those of the global batch, so that replicas change nothing.
    context = tf.distribute.get_replica_context()
    clipped = list(grads)
    reached = [i for i, gradient in enumerate(grads) if gradient is not None]
    totals = context.all_reduce(
      tf.distribute.ReduceOp.SUM, [grads[i] for i in reached]
    )
    for place, total in zip(reached, totals, strict=True):
      clipped[place] = total
    for places, norm in (
      ([i for i in reached if i not in self._places], _WEIGHTS_NORM),
      ([i for i in reached if i in self._places], _RANGES_NORM),
    ):
      group, _ = tf.clip_by_global_norm([clipped[i] for i in places], norm)
      for place, gradient in zip(places, group, strict=True):
        clipped[place] = gradient / context.num_replicas_in_sync
    super().apply(clipped, trainable_variables)


def _twin(recipe: recipes.Recipe, network: keras.Model) -> twin.Twin:
  return twin.build(network, weight_scales=recipe.qat.weight_scales)
