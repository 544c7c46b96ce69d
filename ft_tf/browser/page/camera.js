/** One photo of the camera. */

const REASONS = {
  NotAllowedError: 'The camera was not allowed: allow it for this page.',
  NotFoundError: 'This machine has no camera: choose an image file.',
  NotReadableError: 'The camera is in use by another program.',
};

export class Camera {
  /** @param {HTMLVideoElement} video Shows what the camera sees. */
  constructor(video) {
    this.video = video;
    this.stream = null;
  }

  static exists() {
    return Boolean(navigator.mediaDevices?.getUserMedia);
  }

  async open() {
    try {
      this.stream = await navigator.mediaDevices.getUserMedia(
          {video: {facingMode: 'environment'}});
      this.video.srcObject = this.stream;
      await this.video.play();
    } catch (error) {
      this.close();
      throw new Error(
          REASONS[error.name] ?? `The camera cannot be used (${error.name}).`);
    }
  }

  close() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.video.srcObject = this.stream = null;
  }
}
