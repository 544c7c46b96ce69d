"""Runs of the student's stage with a small teacher that is not trained."""

import os
import tempfile

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
      one before it has compiled.
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
    """Trains a student into a folder of `runs`; returns run and result."""
    run = run_dir.RunDir(os.path.join(self.runs, name))
    dataset = dataset or self.dataset
    result = student.train_student(
      recipe or fixtures.short_recipe(),
      dataset,
      teacher=self.teacher and teachers.load(self.teacher, dataset),
      paraphrasers=[
        paraphraser.load(path) for path in paraphrasers or [self.paraphraser]
      ],
      run=run,
      strategy=self.strategy,
      options=loop.Options(**{'log_steps': 2, **options}),
      signals=signals,
      compiled=compiled or self.compiled,
    )
    return run, result

  def paraphrasers(self, *layers):
    """Saves an untrained paraphraser of each layer; returns the files."""
    teacher, paths = model_files.load(self.teacher), []
    for layer in layers:
      paths.append(os.path.join(self.runs, f'{layer}.keras'))
      its = factors.Paraphraser(0.5, layer=layer)
      its.build((None, *feature_maps.shape(teacher, layer)))
      its.save(paths[-1])
    return paths
