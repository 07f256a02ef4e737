"use strict";
// Loads the overview anew every 30 seconds while that is wished for, the page can be seen, and nobody reads a table in it.
{
    const KEY = "celery.overview.refresh";
    const SECONDS = 30;
    const label = document.querySelector(".celery-overview .keep");
    const box = label.querySelector("input");

    function isBeingRead() {
        return document.querySelector(".celery-overview details[open]") !== null || String(document.getSelection()) !== "";
    }

    label.hidden = false;
    box.checked = localStorage.getItem(KEY) === "on";
    box.addEventListener("change", () => localStorage.setItem(KEY, box.checked ? "on" : "off"));
    setInterval(() => {
        if (box.checked && document.visibilityState === "visible" && !isBeingRead()) {
            location.reload();
        }
    }, SECONDS * 1000);
}
