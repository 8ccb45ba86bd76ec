// The microphone as s16 mono PCM.
const kReasons = {
  NotAllowedError: 'The browser was not allowed to use the microphone. Allow it at the address bar, then try again.',
  NotFoundError: 'There is no microphone. Connect one, then try again.',
  NotReadableError: 'The microphone cannot be read. Perhaps another program uses it.',
};

export class Microphone {
  // Empty: it can be asked for.
  static missing() {
    if (!window.isSecureContext) return 'A browser gives the microphone to pages over HTTPS or of localhost only.';
    if (!navigator.mediaDevices || !window.AudioWorkletNode) return 'This browser cannot use a microphone.';
    return '';
  }

  // onSound(pcm, peak). Throws an Error that says what to do. false: it was stopped meanwhile.
  async start(rate, onSound, onEnded) {
    const missing = Microphone.missing();
    if (missing) throw new Error(missing);
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({
        audio: {echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1}});
    } catch (error) {
      throw new Error(kReasons[error.name] || `The microphone cannot be used: ${error.message}`);
    }
    if (this.stopped) return this.release();
    this.stream.getAudioTracks()[0].addEventListener('ended', onEnded);
    this.context = new AudioContext({latencyHint: 'interactive'});
    const {context} = this;
    await context.audioWorklet.addModule('microphone-worklet.js');
    if (this.stopped) return false;
    this.node = new AudioWorkletNode(context, 'microphone', {numberOfOutputs: 0, processorOptions: {rate}});
    this.node.port.onmessage = ({data}) => onSound(data.pcm, data.peak);
    context.createMediaStreamSource(this.stream).connect(this.node);
    context.resume();  // not awaited: without a loudspeaker some browsers never answer
    return true;
  }

  stop() {
    this.stopped = true;
    this.release();
  }

  release() {
    if (this.node) this.node.port.onmessage = null;
    this.stream?.getTracks().forEach((track) => track.stop());
    this.context?.close();
    this.stream = this.context = this.node = null;
    return false;
  }
}
