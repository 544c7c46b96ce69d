#!/usr/bin/env python3
"""Compares ways from a trained student to its int8 file, over seeds.

  python examples/compare_quantisation.py --recipe=digits --qat_epochs=8 \
      --student=mobilenetv2x0.35 --seeds=5 --workdir=runs/int8

Every student of a seed is continued by each way for as many steps, and what is
compared is the accuracy of the int8 files on the test images:

  ptq          quantised after training, not continued
  float        continued in float, then quantised
  qat          continued in simulated int8 with all terms of its loss
  qat_scratch  the same with cross entropy alone
  tunner       the ptq file, tuned by squared error to the float student's
               logits, by `litert-tunner` where that is installed

The files' accuracies are in int8.json of the workdir. The same command again
continues what was interrupted.
"""

import dataclasses
import importlib.util
import os
import sys
import tempfile
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags
from ai_edge_litert import interpreter as litert

import ft_tf  # noqa: F401  Before TensorFlow: it sets how that computes.
from ft_tf import recipe_flags, recipes, run_dir, specs, storage
from ft_tf.cli import flag_sets, settings
from ft_tf.data import datasets, views
from ft_tf.evaluation import metrics, predictors
from ft_tf.export import calibration_images, convert, formats
from ft_tf.models import model_files
from ft_tf.report import paired, tables
from ft_tf.training import (
  paraphraser,
  precision,
  quantisation_aware,
  student,
  teacher,
)

FLAGS = flags.FLAGS
_TUNNER = 'litert_tunner'
# Differences are of this one to each of the others.
_OF_INTEREST = 'qat'


def define_flags() -> None:
  flag_sets.define_workdir(FLAGS, 'output directory')
  flag_sets.define_recipe(FLAGS, (*flag_sets.ALL_STAGES, 'qat'))
  flag_sets.define_data_dir(FLAGS)
  flag_sets.define_devices(FLAGS)
  flags.DEFINE_integer('seeds', 5, 'number of seeds, starting at --seed')
  flags.DEFINE_list(
    'scales',
    ['channel', 'tensor'],
    'values of --weight_scales to compare the ways for',
  )


@dataclasses.dataclass(frozen=True)
class Trained:
  """A trained student with what continues it.

  Attributes:
    recipe: Its recipe, with its seed.
    run: Its run.
    seen: The images at its size.
    folder: The folder of its files and continued runs.
    work: Arguments of the stages.
  """

  recipe: recipes.Recipe
  run: run_dir.RunDir
  seen: datasets.Dataset
  folder: run_dir.RunDir
  work: dict[str, Any]

  def continued(
    self, name: str, *, in_float: bool = False, **changes: Any
  ) -> run_dir.RunDir:
    """Returns the run of the student continued, trained if it is not there."""
    run = self.folder.child(name)
    quantisation_aware.train_quantised(
      recipe_flags.override(self.recipe, changes),
      trained=self.run,
      run=run,
      in_float=in_float,
      **self.work,
    )
    return run

  def file(
    self, run: run_dir.RunDir, scales: str, file_format: str = 'int8'
  ) -> bytes:
    """Returns the int8 file of a run's network, as an export makes it."""
    source = formats.Source(
      model_files.load(run.model),
      calibration_images.choose(self.seen),
      weight_scales=scales,
      ranges=quantisation_aware.read_ranges(run),
    )
    return formats.FORMATS[file_format].make(source)

  def tuned(self, scales: str, steps: int) -> bytes:
    """Returns the int8 file after training, tuned by litert-tunner.

    That reads and returns int8 as it is, so that images are shifted and the
    float student's logits brought to the file's scale. What is trained, the
    optimizer and its rate are its own defaults.
    """
    import litert_tunner  # noqa: PLC0415  Optional.

    keras.utils.set_random_seed(self.recipe.seed)
    with tempfile.TemporaryDirectory() as scratch:
      path = os.path.join(scratch, 'int8.tflite')
      content = self.file(self.run, scales, 'int8_io')
      with open(path, 'wb') as file:
        file.write(content)
      (output,) = litert.Interpreter(model_content=content).get_output_details()
      scale, zero_point = output['quantization']
      image = keras.Input(self.seen.image_shape)
      logits = convert.float32_twin(
        model_files.load(self.run.model), 'float32'
      )(image + 128.0)
      replica = litert_tunner.load_model(path)
      litert_tunner.distillation.trainer.prepare_for_finetuning(replica)
      trainer = litert_tunner.distillation.trainer.Trainer(
        student_model=replica,
        teacher_model=keras.Model(image, logits / scale + zero_point),
      )
      trainer.compile(optimizer='adam')
      batches = views.stream(
        self.seen.train,
        self.recipe.data,
        seed=self.recipe.seed,
        first_step=0,
        last_step=steps,
        labels=False,
      ).map(lambda batch: tf.cast(batch['image'], tf.float32) - 128.0)
      trainer.fit(batches, steps_per_epoch=steps, epochs=1, verbose=0)
      litert_tunner.save_model(replica, path)
      with open(path, 'rb') as file:
        return file.read()


def measure(trained: Trained, scales: str) -> dict[str, float]:
  """Returns the accuracy of the int8 file of each way, and of the student."""
  folder = trained.folder
  os.makedirs(folder.path, exist_ok=True)
  own = {'weight_scales': scales}
  ways = {
    'ptq': lambda: trained.file(trained.run, scales),
    # Nothing of a float run depends on the scales.
    'float': lambda: trained.file(
      trained.continued('float', in_float=True), scales
    ),
    'qat': lambda: trained.file(
      trained.continued(f'qat-{scales}', **own), scales
    ),
    'qat_scratch': lambda: trained.file(
      trained.continued(f'qat_scratch-{scales}', method='scratch', **own),
      scales,
    ),
  }
  if importlib.util.find_spec(_TUNNER):
    ways['tunner'] = lambda: trained.tuned(
      scales,
      trained.continued('float', in_float=True).read('result.json')['steps'],
    )
  accuracies = {'keras': trained.run.read('result.json')['accuracy']}
  for way, make in ways.items():
    path = os.path.join(folder.path, f'{way}-{scales}.tflite')
    if not os.path.exists(path):
      content = make()
      with storage.replacing(path) as temporary, open(temporary, 'wb') as file:
        file.write(content)
    predict = predictors.open_predictor(path)
    accuracies[way] = metrics.evaluate(predict, trained.seen.test)['accuracy']
    print(f'{path}: {100 * accuracies[way]:.2f} %', file=sys.stderr, flush=True)
  return accuracies


def compare(by_seed: dict[int, dict[str, float]]) -> str:
  """Returns the table of the ways, each with what `qat` gains over it.

  The intervals are at the 95 % level, each of its own and not corrected for
  their number.

  Args:
    by_seed: The values of `measure` by seed.
  """
  rows = []
  ways = next(iter(by_seed.values())).keys()
  of_interest = {seed: each[_OF_INTEREST] for seed, each in by_seed.items()}
  for way in ways:
    values = {seed: each[way] for seed, each in by_seed.items()}
    listed = 100 * np.array(list(values.values()))
    gain = paired.compute_gain(of_interest, values)
    difference = interval = '-'
    if way != _OF_INTEREST and gain is not None:
      difference = f'{100 * gain.mean:+.2f}'
      if gain.interval is not None:
        low, high = gain.interval
        interval = f'{100 * low:+.2f}..{100 * high:+.2f}'
    rows.append(
      [
        way,
        f'{listed.mean():.2f}',
        f'{listed.std(ddof=1):.2f}' if len(listed) > 1 else '-',
        difference,
        interval,
      ]
    )
  header = ['way', 'mean %', 'std', f'{_OF_INTEREST} less it', '95 % interval']
  return tables.to_markdown(header, rows)


def main(argv: list[str]) -> None:
  del argv
  setting = settings.read_setting(FLAGS)
  recipe, dataset, run = setting.recipe, setting.dataset, setting.run
  recipe = precision.settle(recipe)
  quantisation_aware.check(recipe, specs.build_student(recipe, dataset))
  work = {'strategy': setting.strategy, 'options': setting.options}
  trained_teacher = teacher.obtain_teacher(
    recipe, dataset, run=run.child('teacher'), given=setting.given, **work
  )
  work |= {'teacher': trained_teacher, 'paraphrasers': ()}
  if recipes.needs_paraphraser(recipe.student.method):
    work['paraphrasers'] = paraphraser.train_paraphrasers(
      recipe,
      dataset,
      teacher=trained_teacher,
      run=run.child('paraphraser'),
      strategy=setting.strategy,
      options=setting.options,
    )
  measured: dict[str, dict[int, dict[str, float]]] = {}
  for seed in range(recipe.seed, recipe.seed + FLAGS.seeds):
    of_seed = recipe_flags.override(recipe, {'seed': seed})
    trained = Trained(
      recipe=of_seed,
      run=run.child(f'student-{seed}'),
      seen=specs.student_dataset(recipe, dataset),
      folder=run.child(f'int8-{seed}'),
      work={**work, 'dataset': dataset},
    )
    student.train_student(of_seed, dataset, run=trained.run, **work)
    for scales in FLAGS.scales:
      measured.setdefault(scales, {})[seed] = measure(trained, scales)
      run.write('int8.json', measured)
  for scales, by_seed in measured.items():
    print(f'\nweight_scales={scales}, {len(by_seed)} seeds\n')
    print(compare(by_seed))


if __name__ == '__main__':
  define_flags()
  app.run(main)
