// A button that records with the microphone until it is pressed again.

const LONGEST_S = 60;
const BITS_PER_SECOND = 256_000; // so many that the codec is not heard
const AS_IT_IS = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };

/** `done` gets the recording (a Blob), `refuse` a sentence where there is none. */
export function connectMicrophone(button, done, refuse) {
  const words = button.textContent;
  let recorder = null;
  if (!navigator.mediaDevices || !window.MediaRecorder) {
    button.disabled = true;
    button.textContent = "No microphone on this page (it needs https)";
    return;
  }
  button.onclick = async () => {
    if (recorder) return recorder.stop();
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: AS_IT_IS });
      recorder = new MediaRecorder(stream, { audioBitsPerSecond: BITS_PER_SECOND });
    } catch (error) {
      refuse(`The microphone cannot be used (${error.message}).`);
      return;
    }
    const chunks = [];
    const began = performance.now();
    const clock = setInterval(() => {
      const seconds = (performance.now() - began) / 1000;
      button.textContent = `Stop recording (${seconds.toFixed(0)} s)`;
      if (seconds >= LONGEST_S && recorder) recorder.stop();
    }, 250);
    recorder.ondataavailable = ({ data }) => chunks.push(data);
    recorder.onstop = () => {
      clearInterval(clock);
      recorder.stream.getTracks().forEach((track) => track.stop());
      done(new Blob(chunks, { type: recorder.mimeType }));
      recorder = null;
      button.textContent = words;
      button.setAttribute("aria-pressed", "false");
    };
    recorder.start();
    button.textContent = "Stop recording";
    button.setAttribute("aria-pressed", "true");
  };
}
