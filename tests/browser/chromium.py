"""Chromium without a window, driven through the pipe of its DevTools."""

import base64
import fcntl
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
from typing import Any

_SECONDS = 120  # that an answer may take
_NAMES = ('chromium', 'chromium-browser', 'google-chrome')
_ARGUMENTS = (
  '--headless=new',
  '--remote-debugging-pipe',
  '--no-first-run',
  # A camera that shows a moving circle, without asking.
  '--use-fake-device-for-media-stream',
  '--use-fake-ui-for-media-stream',
)


def find() -> str | None:
  """Returns the program, if this machine has it."""
  return next(filter(None, map(shutil.which, _NAMES)), None)


class Page:
  """One tab of a browser of its own.

  Attributes:
    events: What has happened in the tab, by DevTools, in order.
  """

  def __init__(self) -> None:
    program = find()
    assert program is not None
    self.events: list[dict[str, Any]] = []
    self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
    self._number = 0
    self._session: str | None = None
    self._profile = tempfile.mkdtemp()
    to_read, self._to = os.pipe()
    self._from, to_write = os.pipe()
    # Above 4, so that none is overwritten before it is copied.
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_read, to_write)]

    def connect():
      os.dup2(ends[0], 3)
      os.dup2(ends[1], 4)

    # Its sandbox refuses the superuser.
    as_root = ('--no-sandbox',) if os.getuid() == 0 else ()
    self._process = subprocess.Popen(
      [program, *_ARGUMENTS, *as_root, f'--user-data-dir={self._profile}'],
      stdin=subprocess.DEVNULL,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
      preexec_fn=connect,
      pass_fds=(3, 4),
    )
    for end in (to_read, to_write, *ends):
      os.close(end)
    threading.Thread(target=self._listen, daemon=True).start()
    target = self.send('Target.createTarget', url='about:blank')['targetId']
    self._session = self.send(
      'Target.attachToTarget', targetId=target, flatten=True
    )['sessionId']
    for domain in ('Page', 'Runtime', 'Log', 'Network', 'DOM'):
      self.send(f'{domain}.enable')

  def send(self, method: str, **parameters: Any) -> dict[str, Any]:
    """Sends a command; returns its result."""
    self._number += 1
    message = {'id': self._number, 'method': method, 'params': parameters}
    if self._session is not None:
      message['sessionId'] = self._session
    self._write(message)
    while True:
      answer = self._answers.get(timeout=_SECONDS)
      if answer['id'] == self._number:
        if 'error' in answer:
          raise RuntimeError(f'{method}: {answer["error"]}')
        return answer['result']

  def open(self, url: str) -> None:
    """Opens a page of ours; returns once its first model is compiled."""
    self.send('Page.navigate', url=url)
    self.run(
      '(async () => {'
      '  while (!(window.ftTf && document.readyState === "complete"))'
      '    await new Promise(done => setTimeout(done, 20));'
      '  await ftTf.ready;'
      '})()'
    )

  def run(self, code: str) -> Any:
    """Returns the value of JavaScript; promises are waited for."""
    result = self.send(
      'Runtime.evaluate', expression=code, awaitPromise=True, returnByValue=True
    )
    if 'exceptionDetails' in result:
      details = result['exceptionDetails']
      raise RuntimeError(details.get('exception', details))
    return result['result'].get('value')

  def wait(self, condition: str) -> None:
    """Waits until JavaScript is true."""
    self.run(
      '(async () => {'
      f'  for (let i = 0; i < 500 && !({condition}); i++)'
      '    await new Promise(done => setTimeout(done, 20));'
      f'  if (!({condition})) throw Error("it does not become true");'
      '})()'
    )

  def press(self, key: str, *, text: str = '') -> None:
    """Presses a key where the focus is."""
    code = {' ': 32, 'Tab': 9, 'Enter': 13, 'Delete': 46}.get(key, 0)
    for kind in ('keyDown', 'keyUp'):
      typed = {'text': text} if text and kind == 'keyDown' else {}
      self.send(
        'Input.dispatchKeyEvent',
        type=kind,
        key=key,
        windowsVirtualKeyCode=code,
        **typed,
      )

  def drag(self, points: list[tuple[float, float]]) -> None:
    """Draws a line with the mouse, in pixels of the window."""
    kinds = ['mousePressed', *['mouseMoved'] * (len(points) - 1)]
    for kind, (x, y) in zip(
      [*kinds, 'mouseReleased'], [*points, points[-1]], strict=True
    ):
      self.send(
        'Input.dispatchMouseEvent',
        type=kind,
        x=x,
        y=y,
        button='left',
        buttons=1,
        clickCount=1,
      )

  def choose_file(self, selector: str, path: str) -> None:
    """Puts a file into an input of the page."""
    root = self.send('DOM.getDocument')['root']['nodeId']
    node = self.send('DOM.querySelector', nodeId=root, selector=selector)
    self.send('DOM.setFileInputFiles', files=[path], nodeId=node['nodeId'])

  def shoot(self, path: str, *, width: int, dark: bool) -> None:
    """Writes a picture of the whole page."""
    self.send(
      'Emulation.setEmulatedMedia',
      features=[
        {'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}
      ],
    )
    self.send(
      'Emulation.setDeviceMetricsOverride',
      width=width,
      height=800,
      deviceScaleFactor=1,
      mobile=False,
    )
    result = self.send('Page.captureScreenshot', captureBeyondViewport=True)
    with open(path, 'wb') as file:
      file.write(base64.b64decode(result['data']))

  def close(self) -> None:
    self._process.terminate()
    self._process.wait(timeout=_SECONDS)
    os.close(self._to)
    shutil.rmtree(self._profile, ignore_errors=True)

  def _write(self, message):
    content = json.dumps(message).encode() + b'\0'
    while content:
      content = content[os.write(self._to, content) :]

  def _listen(self):
    with os.fdopen(self._from, 'rb') as file:
      rest = b''
      while chunk := file.read1(2**20):
        *messages, rest = (rest + chunk).split(b'\0')
        for message in map(json.loads, messages):
          if 'id' in message:
            self._answers.put(message)
          else:
            self.events.append(message)
