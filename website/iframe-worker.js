// Browsers start no worker from a file system: there, a hidden frame of the page runs the search in its place.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.worker = this;
      this.frame.srcdoc = `
        <script>self.postMessage = data => setTimeout(() => frameElement.worker.onmessage({data}))<\/script>
        <script src="${url}"><\/script>`;
      this.loaded = new Promise(done => this.frame.addEventListener("load", done));
      document.documentElement.append(this.frame);
    }

    postMessage(data) {
      this.loaded.then(() => this.frame.contentWindow.onmessage({data}));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
