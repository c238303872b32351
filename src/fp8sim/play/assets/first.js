/* The one global: the library's data, and a place for what the other scripts define. */
window.fp8sim = { data: JSON.parse(document.getElementById("play-data").textContent), parts: {} };
