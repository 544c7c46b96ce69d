"""What a student has taken over from its teacher, beyond its answers.

Figures of validation images: the test split stays out of it.
"""

import os
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ft_tf import recipe_flags, recipes, run_dir, specs, teachers
from ft_tf.data import datasets, sampling
from ft_tf.evaluation import metrics
from ft_tf.methods import base, factor_transfer, registry
from ft_tf.models import folding, layer_choice, model_files, taps
from ft_tf.training import paraphraser, student_stage

FILE = 'knowledge.json'
_PROBED = 5000  # training images that the linear probe is fitted to
_COMPARED = 1000  # validation images whose features are compared


def cka(first: np.ndarray, second: np.ndarray) -> float | None:
  """Returns the debiased linear centred kernel alignment, -1..1.

  Kornblith et al. 2019 with the unbiased estimator of HSIC by Song et al. 2012,
  as in Nguyen, Raghu and Kornblith 2021: 1 for features that are the same but
  for rotation, scale and offset, near 0 for unrelated ones however many
  elements they have, 0 where one is the same for all examples. (The biased
  estimator grows with the elements: to 0.8 for unrelated features of 1,000
  examples and 4,096 elements.)

  Args:
    first: Features of N examples, `[N, ...]`.
    second: Features of the same, of any other shape `[N, ...]`.

  Returns:
    None for less than 4 examples, of which there is no unbiased estimate.
  """
  return _alignments('cka', first, second)['cka']


def _alignments(
  name: str, first: np.ndarray, second: np.ndarray
) -> dict[str, float | None]:
  """Returns the CKA by a name, and beside it that of shuffled features."""
  shuffled, count = f'{name}_shuffled', len(first)
  if count < 4:
    return {name: None, shuffled: None}
  one, two = _gram(first), _gram(second)
  order = np.random.default_rng(0).permutation(count)
  return {
    name: _alignment(one, two),
    shuffled: _alignment(one, two[np.ix_(order, order)]),
  }


def _gram(features: np.ndarray) -> np.ndarray:
  """Returns the Gram matrix of features, `[N, N]`, U-centred.

  That is without its diagonal, and with rows that sum to 0 (Szekely and Rizzo
  2014). The sum of the products of two such matrices is the unbiased estimate
  of their HSIC, N (N - 3) times.
  """
  x = features.reshape(len(features), -1).astype(np.float64)
  mean = x.mean(axis=0)
  x -= mean  # changes nothing but the rounding
  # An element that is the same for all examples is so but for float32's.
  x[:, np.abs(x).max(axis=0) <= np.finfo(np.float32).eps * np.abs(mean)] = 0
  gram = x @ x.T
  np.fill_diagonal(gram, 0)
  count = len(gram)
  sums = gram.sum(axis=0) / (count - 2)
  gram += gram.sum() / ((count - 1) * (count - 2)) - sums - sums[:, None]
  np.fill_diagonal(gram, 0)
  return gram


def _alignment(one: np.ndarray, two: np.ndarray) -> float:
  """Returns the CKA of the features of two matrices of `_gram`."""
  norms = np.linalg.norm(one) * np.linalg.norm(two)
  return float((one * two).sum() / norms) if norms else 0.0


def look(
  run: run_dir.RunDir,
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  *,
  teacher: teachers.Teacher,
  paraphrasers: Sequence[paraphraser.TrainedParaphraser],
) -> dict[str, Any]:
  """Returns the figures of a finished run of a student, and keeps them there.

  Args:
    run: The student's run; `knowledge.json` is left in it.
    recipe: The student's.
    dataset: The images; without validation images there are no figures.
    teacher: The teacher.
    paraphrasers: The teacher's, if the method has some.

  Returns:
    `feature_cka`, of the two feature maps; `probe_accuracy` (0..1), of a
    logistic regression on the student's last map, averaged over its places;
    and with factor transfer `factor_cka`, of the two factors, and
    `feature_factor_cka`, of the student's map before its translator and the
    teacher's factor. Of several pairs of layers they are of the last. Each
    CKA has beside it, as `..._cka_shuffled`, the value of the same features
    with the student's examples in another order, which have nothing in common:
    its distance from 0 is that of chance. A CKA is None for less than 4 images.
  """
  known = run.read(FILE)
  # Those of older versions have the biased CKA, and none of shuffled features.
  if known is not None and 'feature_cka_shuffled' in known:
    return known
  images = _validation_sample(dataset)
  if not len(images):
    return {}
  trained_student = model_files.load(run.model)
  terms = _terms(
    recipe, run, dataset, teacher.model, trained_student, paraphrasers
  )
  *_, (teacher_layer, student_layer) = registry.resolve_layer_pairs(
    recipe, teacher.model, trained_student
  )
  of_teacher = _outputs(
    teacher.model,
    {teacher_layer, *(name for term in terms for name in term.teacher_layers)},
    images,
  )
  seen = specs.student_dataset(recipe, dataset)
  of_student = _outputs(
    trained_student,
    {student_layer, *(name for term in terms for name in term.student_layers)},
    _validation_sample(seen),
  )
  teacher_feature = of_teacher.features[teacher_layer]
  student_feature = of_student.features[student_layer]
  figures = _alignments('feature_cka', teacher_feature, student_feature)
  for term in terms:
    if isinstance(term, factor_transfer.FactorTransfer):
      factor, adapted = (
        np.asarray(tf.cast(x, tf.float32))
        for x in (term.signal(of_teacher), term.adapt(of_student))
      )
      figures |= _alignments('factor_cka', factor, adapted)
      figures |= _alignments('feature_factor_cka', factor, student_feature)
  figures['probe_accuracy'] = _probe(
    trained_student, layer_choice.last_feature_map(trained_student), seen
  )
  run.write(FILE, figures)
  return figures


def _validation_sample(dataset: datasets.Dataset) -> np.ndarray:
  """Returns the validation images whose features are compared."""
  return sampling.sample(dataset.validation, _COMPARED).images[:]


def _terms(
  recipe: recipes.Recipe,
  run: run_dir.RunDir,
  dataset: datasets.Dataset,
  teacher_model: keras.Model,
  trained_student: keras.Model,
  paraphrasers: Sequence[paraphraser.TrainedParaphraser],
) -> list[base.Method]:
  """Returns the terms of a student, with the adapters that it left."""
  if not recipes.terms(recipe.student.method):
    return []
  terms = registry.make(
    recipe_flags.override(recipe, {'precision': 'float32'}),
    registry.Parts(
      teacher=teacher_model,
      student=trained_student,
      paraphrasers=[trained.model for trained in paraphrasers],
      examples=dataset.train,
    ),
  )
  for term in terms:
    if term.adapter is not None:
      path = os.path.join(run.path, student_stage.ADAPTER.format(term.name))
      term.adapter.set_weights(keras.models.load_model(path).get_weights())
  return terms


def _outputs(
  net: keras.Model, layers: Iterable[str], images: np.ndarray
) -> base.Outputs:
  """Returns a network's logits and feature maps of images, float32 arrays."""
  layers = sorted(layers)
  outputs = tf.function(
    folding.fold(taps.logits_and_features(net, layers)),
    reduce_retracing=True,
    autograph=False,
  )
  parts = []
  for first in range(0, len(images), 250):
    logits, features = outputs(tf.constant(images[first : first + 250]))
    parts.append((logits.numpy(), {k: v.numpy() for k, v in features.items()}))
  return base.Outputs(
    np.concatenate([logits for logits, _ in parts]),
    {k: np.concatenate([f[k] for _, f in parts]) for k in layers},
  )


def _probe(net: keras.Model, layer: str, dataset: datasets.Dataset) -> float:
  """Returns the validation accuracy of a linear classifier on a feature map."""
  # A slow import, which few commands need.
  from sklearn import linear_model, pipeline, preprocessing  # noqa: PLC0415

  features = taps.features(folding.fold(net), [layer])
  pool = tf.function(
    lambda images: tf.reduce_mean(features(images)[layer], axis=(1, 2)),
    reduce_retracing=True,
    autograph=False,
  )

  def pooled(examples):
    return metrics.in_batches(
      lambda images: pool(tf.constant(images)).numpy(), examples.images
    )

  train = sampling.sample(dataset.train, _PROBED)
  probe = pipeline.make_pipeline(
    preprocessing.StandardScaler(),
    linear_model.LogisticRegression(max_iter=1000),
  ).fit(pooled(train), train.labels)
  return float(
    probe.score(pooled(dataset.validation), dataset.validation.labels)
  )
