// Search runs in a worker, which browsers refuse to a page that lies on a disk: there a hidden frame stands in for it.
if (location.protocol === "file:") window.Worker = class extends EventTarget {
  constructor(url) {
    super();
    const frame = document.createElement("iframe");
    frame.style.display = "none";
    document.body.append(frame);
    const inside = frame.contentWindow;
    inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
    inside.importScripts = () => {};
    const script = inside.document.createElement("script");
    script.src = new URL(url, location.href).href;
    this.ready = new Promise((done, failed) => { script.onload = done; script.onerror = failed; });
    inside.document.body.append(script);
    this.send = (data) => inside.dispatchEvent(new inside.MessageEvent("message", { data }));
  }
  postMessage(data) { this.ready.then(() => this.send(data)); }
  terminate() {}
};
