"""Tables of exported files, with and without what newer versions write."""

from absl.testing import absltest

from ft_tf.report import export_tables
from tests.report import compression_folder


class SummaryTest(absltest.TestCase):
  def test_every_file_has_its_figures(self):
    table = export_tables.summarise(compression_folder.full_export(4000), None)
    rows = {row[0]: row[1:] for row in table.rows}
    self.assertEqual(
      rows['student_int8.tflite'],
      [
        '1,000',
        '87.65',
        '99.12',
        'dog: 80.0 % (-2.5)',
        '0.05',
        '0.5',
        '0.123',
        'uint8',
        'uint8',
      ],
    )
    self.assertEqual(rows['student.keras'][-3:], ['-', '-', '-'])
    for row in table.rows:
      self.assertLen(row, len(table.header))

  def test_class_that_gains_or_stays_has_no_minus(self):
    export = compression_folder.full_export(4000)
    worst = export['student.keras']['worst_class']
    for drop, shown in ((0.0, '(0.0)'), (1e-9, '(0.0)'), (-0.01, '(+1.0)')):
      worst['drop'] = drop
      table = export_tables.summarise(export, None)
      self.assertEndsWith(table.rows[0][4], shown)

  def test_long_label_is_cut(self):
    export = compression_folder.full_export(4000)
    export['student.keras']['worst_class']['label'] = 'x' * 1000
    cell = export_tables.summarise(export, None).rows[0][4]
    self.assertLess(len(cell), 60)

  def test_export_of_an_older_version_has_gaps(self):
    table = export_tables.summarise(compression_folder.export(4000), None)
    self.assertEqual(
      table.rows[-1][3:], ['99.12', '-', '-', '0.5', '0.123', '-', '-']
    )
    self.assertEmpty(
      export_tables.tensors(compression_folder.export(4000)).rows
    )

  def test_median_is_that_of_the_common_measurement(self):
    table = export_tables.summarise(
      compression_folder.full_export(4000), compression_folder.measured(1, 2)
    )
    medians = {row[0]: row[7] for row in table.rows}
    self.assertEqual(medians['student_int8.tflite'], '0.500')
    self.assertEqual(medians['student_fp32.tflite'], '-')  # Not measured there.


class LayersTest(absltest.TestCase):
  def test_first_five_are_shown(self):
    names = [f'conv{i}' for i in range(8)]
    studied = compression_folder.studied(names, names[:2])
    table = export_tables.layers(studied)
    self.assertEqual([row[0] for row in table.rows], names[:5])
    self.assertEqual(table.rows[0][1:], ['99.50', '0.012', '99.50', '0.012'])
    self.assertLen(table.header, len(table.rows[0]))
    note = export_tables.layers_note(studied)
    self.assertIn('On 256 images, by simulation: the 5 of 8 layers', note)
    self.assertEndsWith(
      note, 'is 95.00 %; with conv0, conv1 left in float, 99.50 %.'
    )

  def test_many_layers_to_repair_are_counted(self):
    names = [f'conv{i}' for i in range(8)]
    note = export_tables.layers_note(compression_folder.studied(names, names))
    self.assertIn('conv3, conv4 and 3 more left in float', note)

  def test_nothing_to_repair_and_nothing_studied(self):
    note = export_tables.layers_note(compression_folder.studied(['conv']))
    self.assertEndsWith(note, 'agreement is 95.00 %.')
    self.assertEmpty(export_tables.layers(None).rows)

  def test_long_name_is_cut(self):
    table = export_tables.layers(compression_folder.studied(['x' * 500]))
    self.assertLen(table.rows[0][0], 40)


class TensorsTest(absltest.TestCase):
  def test_integers_have_scale_and_zero_point(self):
    table = export_tables.tensors(compression_folder.full_export(4000))
    rows = {row[0]: row[1:] for row in table.rows}
    self.assertEqual(
      rows['student_int8.tflite'],
      [
        'uint8 [1, 8, 8, 3], scale 1, zero point 0',
        'uint8 [1, 3], scale 0.25, zero point 128',
      ],
    )
    self.assertEqual(
      rows['student_fp32.tflite'], ['uint8 [1, 8, 8, 3]', 'float32 [1, 3]']
    )

  def test_open_dimension_is_any(self):
    export = compression_folder.full_export(4000)
    export['student_fp32.tflite']['output']['shape'] = [None, 3]
    table = export_tables.tensors(export)
    self.assertEqual(table.rows[0][2], 'float32 [any, 3]')


class LatencyTest(absltest.TestCase):
  def test_files_measured_one_by_one(self):
    export = compression_folder.full_export(4000)
    table = export_tables.latency(export, None)
    self.assertEqual(
      table.rows[0], ['student_fp32.tflite', '0.123', '0.234', '0.346', '1']
    )
    self.assertIn(
      'on x86_64, 2 cores',
      export_tables.latency_note(None, [compression_folder.ENVIRONMENT]),
    )
    self.assertIn(
      'on the machine that exported', export_tables.latency_note(None, None)
    )

  def test_files_and_teacher_measured_in_turn(self):
    measured = compression_folder.measured(1, 2)
    table = export_tables.latency({}, measured)
    one = ['0.500', '0.600', '0.700', '3.2']
    two = ['0.250', '0.600', '0.700', '3.2']
    self.assertEqual(
      table.rows,
      [
        ['student_int8.tflite', *one, *two, '2', '4,096'],
        ['teacher, float32', *one, *two, '-', '8,192'],
      ],
    )
    self.assertLen(table.header, len(table.rows[0]))
    note = export_tables.latency_note(measured, None)
    self.assertIn('Fast One, 2 cores (avx2, amx)', note)
    self.assertIn('Fastest with 1 thread: student_int8.tflite', note)

  def test_one_core_without_known_features_or_teacher(self):
    measured = compression_folder.measured(1)
    measured['teacher'] = None
    measured['processor'] = {'name': '', 'cores': 1, 'features': None}
    self.assertLen(export_tables.latency({}, measured).rows, 1)
    self.assertIn(
      'an unknown processor, 1 core.',
      export_tables.latency_note(measured, None),
    )


if __name__ == '__main__':
  absltest.main()
