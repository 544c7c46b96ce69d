"""The results of the benchmark as Markdown."""

from typing import Any

from ft_tf.benchmark import figures, networks

_VERSIONS = {
  'tensorflow': 'TensorFlow',
  'keras': 'Keras',
  'ai-edge-litert': 'LiteRT',
  'torch': 'PyTorch',
  'torchvision': 'torchvision',
  'onnxruntime': 'ONNX Runtime',
  'openvino': 'OpenVINO',
}
_PRECISIONS = ('float32', 'bfloat16')  # as the sections name them


def to_markdown(results: dict[str, Any]) -> str:
  """Returns the results of `sections.run` as Markdown."""
  machine = results['machine']
  versions = ', '.join(
    f'{name} {machine[package]}'
    for package, name in _VERSIONS.items()
    if machine.get(package)
  )
  text = [
    f'{machine["processor"]}, {machine["cores"]} cores, '
    f'{", ".join(machine["flags"])}; {versions}'
  ]
  if 'ratios' in results:
    best = results['best']
    lines = [
      '| ratio of images/s | median | least | most |',
      '|---|---:|---:|---:|',
    ]
    for name, ratio in results['ratios'].items():
      numbers = (
        ' | '.join(f'{ratio[k]:.2f}' for k in ('median', 'least', 'most'))
        if ratio
        else 'failed | | '
      )
      lines.append(f'| {name} | {numbers} |')
    text += [
      '\n'.join(lines),
      f'Fastest ft_tf jobs: {best["ours"]}; {best["cached"]}. Fastest PyTorch '
      f'job: {best["pytorch"]}.',
      figures.table(results['student_steps']),
      figures.table(results['other_steps']),
    ]
  if 'networks' in results:
    text.append(networks.to_markdown(results['networks']))
  if 'parts' in results:
    text.append(_parts_table(results))
  for sweep in results.get('scaling', {}).values():
    text.append(figures.table(sweep))
  for name in ('memory', 'students'):
    if name in results:
      text.append(
        f'{name}: '
        + ', '.join(f'{k} {v:.4g}' for k, v in results[name].items())
      )
  if 'device' in results:
    # Imports TensorFlow, which the figures needed anyway.
    from ft_tf.benchmark import device  # noqa: PLC0415

    text.append(device.to_markdown(results['device']))
  if 'quickstart_seconds' in results:
    text.append(f'quickstart: {results["quickstart_seconds"]:.0f} s')
  return '\n\n'.join(text)


def _parts_table(results):
  lines = ['| ms per step | float32 | bfloat16 |', '|---|---:|---:|']
  for part in results['parts']['float32']:
    numbers = [
      f'{results["parts"][short][part]["milliseconds"]:.1f}'
      for short in _PRECISIONS
    ]
    lines.append(f'| {part} | {" | ".join(numbers)} |')
  for name in results['limit']['float32']:
    numbers = [f'{results["limit"][short][name]:.3g}' for short in _PRECISIONS]
    lines.append(f'| {name} | {" | ".join(numbers)} |')
  return '\n'.join(lines)
