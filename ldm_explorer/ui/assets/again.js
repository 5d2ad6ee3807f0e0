/* What still goes on is read again every few seconds, as long as its room is open and somebody can see it. */
setInterval(() => {
  const stamp = document.hidden ? null : ldm.stages()[0]?.ldm?.show()?.stamp;
  if (stamp) ldm.again(stamp);
}, 5000);
