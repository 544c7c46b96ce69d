"""Runs of the student's stage with a small teacher that is not trained."""

import functools
import os
import tempfile
from unittest import mock

import keras
from absl.testing import parameterized

from ft_tf import factors, run_dir, specs, teachers
from ft_tf.models import feature_maps, model_files, zoo
from ft_tf.training import loop, paraphraser, programs, student
from tests import fixtures


class StudentCase(parameterized.TestCase):
  """Trains students of one teacher and one paraphraser, kept in files.

  Attributes:
    teacher: The teacher's file.
    paraphraser: The file of the paraphraser of its last feature map.
    compiled: The programs of the class, so that a test compiles nothing that
      one before it has compiled; more kinds of students than a command keeps.
    runs: An empty folder of each test.
  """

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    # An untrained teacher serves: these tests are about the stage.
    recipe = fixtures.short_recipe()
    cls.strategy = fixtures.strategy()
    cls.dataset = fixtures.blobs()
    cls.compiled = programs.Programs()
    cls.enterClassContext(mock.patch.object(programs, '_MOST', 8))
    cls._trained = {}
    keras.utils.set_random_seed(5)
    spec = specs.spec(recipe, cls.dataset)
    teacher = zoo.build(recipe.teacher.model, spec)
    network = factors.Paraphraser(recipe.paraphraser.rate)
    network.build(teacher.get_layer('group3').output.shape)
    cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.teacher = os.path.join(cls.folder, 'teacher.keras')
    cls.paraphraser = os.path.join(cls.folder, 'paraphraser.keras')
    teacher.save(cls.teacher)
    network.save(cls.paraphraser)

  def setUp(self):
    super().setUp()
    self.runs = self.create_tempdir().full_path

  def train(
    self,
    name,
    recipe=None,
    signals=None,
    paraphrasers=None,
    dataset=None,
    compiled=None,
    **options,
  ):
    """Trains a student into a folder of `runs`; returns run and result.

    Every file of a teacher or a paraphraser is loaded once, as by a command: a
    shared program has the networks that it was compiled with.
    """
    run = run_dir.RunDir(os.path.join(self.runs, name))
    dataset = dataset or self.dataset
    result = student.train_student(
      recipe or fixtures.short_recipe(),
      dataset,
      teacher=self.teacher and self._load_teacher(self.teacher, dataset),
      paraphrasers=[
        self._load_paraphraser(path)
        for path in paraphrasers or [self.paraphraser]
      ],
      run=run,
      strategy=self.strategy,
      options=loop.Options(**{'log_steps': 2, **options}),
      signals=signals,
      compiled=compiled or self.compiled,
    )
    return run, result

  def train_once(self, name, recipe=None, **options):
    """Returns run and result of a student that all tests of the class share.

    They read its folder, and write to copies alone.
    """
    if name not in self._trained:
      folder = os.path.join(self.folder, name)
      self._trained[name] = self.train(folder, recipe, **options)
    return self._trained[name]

  @classmethod
  @functools.cache
  def _load_teacher(cls, path, dataset):
    return teachers.load(path, dataset)

  @classmethod
  @functools.cache
  def _load_paraphraser(cls, path):
    return paraphraser.load(path)

  def paraphrasers(self, *layers):
    """Saves an untrained paraphraser of each layer; returns the files."""
    teacher, paths = model_files.load(self.teacher), []
    for layer in layers:
      paths.append(os.path.join(self.runs, f'{layer}.keras'))
      its = factors.Paraphraser(0.5, layer=layer)
      its.build((None, *feature_maps.shape(teacher, layer)))
      its.save(paths[-1])
    return paths
