/* Everything is defined: show it. */
fp8sim.page.start(document.getElementById("tabs"), document.getElementById("panels"));
