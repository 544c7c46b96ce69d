"""The time of a command's parts, from what has been measured."""

from absl.testing import absltest

from ft_tf import run_dir
from ft_tf.progress import plan


class ClockTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.root = run_dir.RunDir(self.create_tempdir().full_path)

  def _part(self, name, kind, steps=100):
    return plan.Part(
      path=self.root.child(name).path,
      name=name,
      kind=kind,
      epochs=steps and 10,
      images=160,
      steps=steps,
    )

  def _parts(self):
    return [
      self._part('teacher', 'teacher'),
      self._part('student ft seed 0', 'student ft'),
      self._part('student ft seed 1', 'student ft'),
      self._part('export', 'export', steps=0),
    ]

  def _path(self, name):
    return self.root.child(name).path

  def _write(self, name, rows, **result):
    run = self.root.child(name)
    run.claim({'stage': name})
    for row in rows:
      run.append_metrics(row)
    if result:
      run.write('result.json', result)
    run.release()

  def test_nothing_is_estimated_before_something_is_measured(self):
    self.assertIsNone(plan.Clock(self._parts()).time_left())

  def test_kind_that_is_not_measured_is_as_slow_as_the_slowest(self):
    clock = plan.Clock(self._parts())
    clock.measure(self._path('teacher'), plan.Pace(fixed=5, step=0.5), 20)
    left = clock.time_left(self._path('teacher'))
    # 80 steps of the teacher, which has been built; twice 100 and building.
    self.assertEqual(left, plan.TimeLeft(80 * 0.5 + 2 * (100 * 0.5 + 5), 1))
    self.assertTrue(left.rough)

  def test_kind_that_is_measured_has_its_own_pace(self):
    clock = plan.Clock(self._parts())
    clock.measure(self._path('teacher'), plan.Pace(5, 0.5), 100)
    clock.complete(self._path('teacher'))
    clock.measure(self._path('student ft seed 0'), plan.Pace(2, 0.1), 50)
    left = clock.time_left(self._path('student ft seed 0'))
    self.assertAlmostEqual(left.seconds, 50 * 0.1 + 100 * 0.1 + 2)
    self.assertFalse(left.rough)

  def test_earlier_call_of_the_command_is_counted(self):
    rows = [
      {'step': 20, 'wall_seconds': 14.0},
      {'step': 100, 'wall_seconds': 54.0},
    ]
    self._write('teacher', rows, wall_seconds=60.0)
    self._write(
      'student ft seed 0',
      [{'step': 20, 'wall_seconds': 4.0}, {'step': 60, 'wall_seconds': 8.0}],
    )
    clock = plan.Clock(self._parts())
    # 0.1 s a step and 2 s beside; 40 steps are left of one, 100 of the other.
    left = clock.time_left()
    self.assertAlmostEqual(left.seconds, 140 * 0.1 + 2 * 2)
    self.assertFalse(left.rough)
    self.assertEqual(clock.describe()[0], 'plan: 4 parts, 1 of them complete')

  def test_run_of_a_single_row_measures_nothing(self):
    self._write('teacher', [{'step': 20, 'wall_seconds': 14.0}])
    self.assertIsNone(plan.Clock(self._parts()).time_left())

  def test_plan_has_a_line_for_each_kind(self):
    self.assertEqual(
      plan.Clock(self._parts()).describe(),
      [
        'plan: 4 parts',
        '  teacher: 10 epochs of 160 images, 100 steps',
        '  student ft: 2 seeds, 10 epochs of 160 images, 100 steps each',
        '  export',
      ],
    )
    self.assertEmpty(plan.Clock(self._parts()[:1]).describe())

  def test_place_is_that_of_the_folder(self):
    clock = plan.Clock(self._parts())
    self.assertEqual(clock.place(self._path('student ft seed 1')), 3)
    self.assertIsNone(clock.place(self._path('other')))


if __name__ == '__main__':
  absltest.main()
