"""The student step in PyTorch, from the published form to the fastest one."""

import functools
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from ft_tf.benchmark import jobs, pytorch_networks

PARTS = ('alone', 'kd', 'ft', 'cached')
CLASSES = 10
# The defaults of the library's methods.
_BETA = 500
_TEMPERATURE = 4.0
_KD_ALPHA = 0.9


def student_loss(
  logits: torch.Tensor,
  labels: torch.Tensor,
  student_factor: torch.Tensor,
  teacher_factor: torch.Tensor,
) -> torch.Tensor:
  """Returns cross entropy plus 500 times the factor loss of the public code."""
  student, teacher = (
    functional.normalize(factor.reshape(factor.size(0), -1).float())
    for factor in (student_factor, teacher_factor)
  )
  cross_entropy = functional.cross_entropy(logits.float(), labels)
  return cross_entropy + _BETA * (student - teacher.detach()).abs().mean()


def soft_target_loss(
  logits: torch.Tensor, labels: torch.Tensor, teacher_logits: torch.Tensor
) -> torch.Tensor:
  """Returns 0.1 times cross entropy plus 0.9 times soft targets with T = 4."""
  student, teacher = (
    functional.log_softmax(each.float() / _TEMPERATURE, dim=1)
    for each in (logits, teacher_logits)
  )
  divergence = functional.kl_div(
    student, teacher, reduction='batchmean', log_target=True
  )
  cross_entropy = functional.cross_entropy(logits.float(), labels)
  return (
    1 - _KD_ALPHA
  ) * cross_entropy + _KD_ALPHA * _TEMPERATURE**2 * divergence


class Networks:
  """The networks of a job; each is made when it is first used."""

  def __init__(self, job: jobs.Job):
    self._job = job

  @functools.cached_property
  def teacher(self) -> nn.Module:
    network = pytorch_networks.build(self._job.teacher, CLASSES)
    return pytorch_networks.randomize_batch_norm(network).eval()

  @functools.cached_property
  def student(self) -> nn.Module:
    return pytorch_networks.build(self._job.student, CLASSES)

  @functools.cached_property
  def map_shapes(self) -> dict[str, tuple[int, ...]]:
    """`(C, H, W)` of the last maps of 'teacher' and 'student'."""
    size = self._job.image_size
    with torch.no_grad(), torch.device('meta'):
      return {
        name: tuple(
          pytorch_networks.build(getattr(self._job, name), CLASSES)(
            torch.empty(2, 3, size, size)
          )[0].shape[1:]
        )
        for name in ('teacher', 'student')
      }

  @functools.cached_property
  def encoder(self) -> nn.Module:
    channels, *_ = self.map_shapes['teacher']
    return pytorch_networks.chain(channels, channels // 2).eval()

  @functools.cached_property
  def translator(self) -> nn.Module:
    (teacher, *_), (student, *_) = self.map_shapes.values()
    return pytorch_networks.chain(student, teacher // 2)

  def to_common_size(self, x: torch.Tensor) -> torch.Tensor:
    """Returns a map averaged to the smaller of both networks' maps."""
    (_, *teacher), (_, *student) = self.map_shapes.values()
    size = [min(sides) for sides in zip(teacher, student, strict=True)]
    if list(x.shape[2:]) == size:
      return x
    return functional.adaptive_avg_pool2d(x, size)


def make(job: jobs.Job) -> Callable[[int], float]:
  """Returns a function that repeats the job's step a given number of times.

  It trains a student on one random batch.
  """
  torch.manual_seed(0)
  networks = Networks(job)
  used = [networks.student]
  trained = [*networks.student.parameters()]
  if job.part != 'alone':
    used.append(networks.teacher)
  if job.part in ('ft', 'cached'):
    used += [networks.encoder, networks.translator]
    trained += networks.translator.parameters()
  images = torch.randn(job.batch_size, 3, job.image_size, job.image_size)
  labels = torch.randint(CLASSES, (job.batch_size,))
  if job.channels_last:
    for network in used:
      network.to(memory_format=torch.channels_last)
    images = images.to(memory_format=torch.channels_last)
  optimizer = torch.optim.SGD(trained, lr=0.1, momentum=0.9, weight_decay=5e-4)
  half = torch.autocast(
    'cpu', torch.bfloat16, enabled=job.precision == 'mixed_bfloat16'
  )
  signal, loss = _functions(job, networks, half)
  if job.compiled:
    signal, loss = torch.compile(signal), torch.compile(loss)
  kept = signal(images).detach() if job.part == 'cached' else None

  def run(count):
    for _ in range(count):
      target = signal(images) if kept is None else kept
      value = loss(images, labels, target)
      optimizer.zero_grad()
      value.backward()
      optimizer.step()
    return float(value.detach())

  return run


def _functions(job, networks, half):
  """Returns the functions of a step.

  Returns:
    From images to the teacher's target, None if there is no teacher; and from
    images, labels and the target to the loss.
  """

  def signal(images):
    if job.part == 'alone':
      return None
    # The public script keeps the teacher's graph, which no gradient uses.
    with torch.set_grad_enabled(not job.channels_last), half:
      feature, logits = networks.teacher(images)
      if job.part == 'kd':
        return logits.detach()
      return networks.to_common_size(networks.encoder(feature))

  def loss(images, labels, target):
    with half:
      feature, logits = networks.student(images)
      if job.part in ('ft', 'cached'):
        factor = networks.translator(networks.to_common_size(feature))
    if job.part == 'alone':
      return functional.cross_entropy(logits.float(), labels)
    if job.part == 'kd':
      return soft_target_loss(logits, labels, target)
    return student_loss(logits, labels, factor, target)

  return signal, loss
