"""An ONNX graph that ONNX Runtime executes, up to the tensors that are read."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ft_tf import errors
from ft_tf.models import onnx_files

_AT_ONCE = 32  # images, whose maps are held
_TOLERANCE = 1e-3  # of the largest value, between one image and several


class Graphs:
  """One model, and a session for each choice of tensors."""

  def __init__(self, content: bytes):
    """Takes a model.

    Args:
      content: A serialised ModelProto, with all weights inside.
    """
    self.content = content
    self._sessions: dict[tuple[Any, ...], Session] = {}

  def model(self) -> Any:
    """Returns the ModelProto."""
    onnx = onnx_files.package('onnx', 'an ONNX teacher')
    return onnx.ModelProto.FromString(self.content)

  def session(
    self,
    image: str,
    tensors: Sequence[str],
    batch: int | None,
    shape: Sequence[int],
    dtype: str,
  ) -> 'Session':
    """Returns the session that computes some tensors; made once.

    Args:
      image: The name of the input.
      tensors: The names of the tensors.
      batch: The only batch size that the file promises; None: any.
      shape: Of one image, as the graph takes it.
      dtype: Of the images.
    """
    key = (*tensors, *shape)
    if key not in self._sessions:
      # Some values, which are the same in every process.
      rng = np.random.default_rng(0)
      images = 255 * rng.random(((batch or 1) + 1, *shape))
      self._sessions[key] = Session(
        self.model(), image, tensors, batch, images.astype(dtype)
      )
    return self._sessions[key]


class Session:
  """Computes tensors of a graph, in threads of ONNX Runtime's own."""

  def __init__(
    self,
    model: Any,
    image: str,
    tensors: Sequence[str],
    batch: int | None,
    images: np.ndarray,
  ):
    """Compiles the part of a graph that makes some tensors, and tries it.

    Args:
      model: A ModelProto, which is changed.
      image: The name of the input.
      tensors: The names of the tensors, which become the outputs.
      batch: The only batch size that the file promises; None: any.
      images: One more than a batch, to try the graph with.

    Raises:
      UsageError: ONNX Runtime does not take the graph, or cannot run it.
    """
    self._image, self._tensors = image, list(tensors)
    self._batch = _AT_ONCE
    try:
      fixed = None if batch is None else _session(model, tensors)
      self._session = _session(_of_any_batch(model, image), tensors)
      if fixed is None:
        self._run(self._session, images)
      elif not self._gives_the_same(fixed, images):
        self._session, self._batch = fixed, batch or 1
    except Exception as error:  # ONNX Runtime's own kinds.
      reason = errors.first_line(error)
      raise errors.UsageError(
        f'ONNX Runtime does not run the ONNX teacher ({reason}): export it '
        'again, with another opset or a newer exporter'
      ) from error
    self._holds_on = fixed is self._session

  def __call__(self, images: np.ndarray) -> list[np.ndarray]:
    """Returns the tensors, float32, of images as the graph takes them."""
    parts = []
    for first in range(0, len(images), self._batch):
      some = images[first : first + self._batch]
      count = len(some)
      if self._holds_on and count < self._batch:
        filler = np.repeat(some[-1:], self._batch - count, axis=0)
        some = np.concatenate([some, filler])
      outputs = self._run(self._session, some)
      parts.append([each[:count] for each in outputs])
    if len(parts) == 1:
      return parts[0]
    return [np.concatenate(each) for each in zip(*parts, strict=True)]

  def _gives_the_same(self, fixed: Any, images: np.ndarray) -> bool:
    """Tells whether another batch than that of the file gives the same.

    A batch that a file fixes is often one of its signature alone.
    """
    expected = self._run(fixed, images[:-1])
    try:
      outputs = self._run(self._session, images)
    except Exception:  # Operations within hold on to the batch.
      return False
    return all(
      len(output) == len(images)
      and np.allclose(
        output[:-1], wanted, rtol=0, atol=_TOLERANCE * np.abs(wanted).max()
      )
      for output, wanted in zip(outputs, expected, strict=True)
    )

  def _run(self, session: Any, images: np.ndarray) -> list[np.ndarray]:
    outputs = session.run(self._tensors, {self._image: images})
    return [np.asarray(each, np.float32) for each in outputs]


def _session(model: Any, tensors: Sequence[str]) -> Any:
  """Returns ONNX Runtime's session of the part that makes some tensors."""
  onnx = onnx_files.package('onnx', 'an ONNX teacher')
  onnxruntime = onnx_files.package('onnxruntime', 'an ONNX teacher')
  part = onnx.ModelProto()
  part.CopyFrom(model)
  _keep_part(onnx, part.graph, tensors)
  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads = len(os.sched_getaffinity(0))
  # Threads that wait without sleeping would take the time of the student.
  options.add_session_config_entry('session.intra_op.allow_spinning', '0')
  options.use_deterministic_compute = True
  options.log_severity_level = 4  # what fails is raised
  return onnxruntime.InferenceSession(
    part.SerializeToString(), options, providers=['CPUExecutionProvider']
  )


def _of_any_batch(model: Any, image: str) -> Any:
  """Returns a model whose images may be any number."""
  for value in model.graph.input:
    if value.name == image:
      value.type.tensor_type.shape.dim[0].Clear()
      value.type.tensor_type.shape.dim[0].dim_param = 'batch'
  # What the exporter noted of other tensors may state its batch.
  del model.graph.value_info[:]
  return model


def _keep_part(onnx: Any, graph: Any, tensors: Sequence[str]) -> None:
  """Removes from a graph what some tensors do not need; makes them outputs."""
  needed = set(tensors)
  for index in reversed(range(len(graph.node))):
    node = graph.node[index]
    if needed.isdisjoint(node.output):
      del graph.node[index]
      continue
    needed.update(node.input)
    for inner in onnx_files.subgraphs(node):
      needed |= _names_within(inner)
  for index in reversed(range(len(graph.initializer))):
    if graph.initializer[index].name not in needed:
      del graph.initializer[index]
  del graph.output[:]
  graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)


def _names_within(graph: Any) -> set[str]:
  """Returns the names that an inner graph reads, from outside or inside."""
  names: set[str] = {each.name for each in graph.output}
  for node in graph.node:
    names.update(node.input)
    for inner in onnx_files.subgraphs(node):
      names |= _names_within(inner)
  return names
