<h1>PHP in Kiln</h1>
<p>hello <?= htmlspecialchars($_GET["name"] ?? "world") ?></p>
