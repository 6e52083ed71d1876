<?php
// client.php KIND URL...: asks each URL, and says `URL STATUS` or why not.
const TOKEN = 'Authorization: Bearer dop_v1_00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff';

function by_streams(string $url): int {
    $context = stream_context_create(['http' => ['header' => TOKEN, 'ignore_errors' => true, 'timeout' => 20]]);
    return @file_get_contents($url, false, $context) === false ? 0 : (int) explode(' ', $http_response_header[0])[1];
}

function by_curl(string $url): int {
    $curl = curl_init($url);
    curl_setopt_array($curl, [CURLOPT_HTTPHEADER => [TOKEN], CURLOPT_RETURNTRANSFER => true, CURLOPT_TIMEOUT => 20]);
    if (curl_exec($curl) === false) {
        fwrite(STDERR, curl_error($curl) . "\n");
    }
    return curl_getinfo($curl, CURLINFO_RESPONSE_CODE);
}

$failed = false;
foreach (array_slice($argv, 2) as $url) {
    $status = $argv[1] === 'curl' ? by_curl($url) : by_streams($url);
    if ($status === 0) {
        fwrite(STDERR, "$url: " . (error_get_last()['message'] ?? '') . "\n");
    } else {
        echo "$url $status\n";
    }
    $failed = $failed || $status !== 200;
}
exit($failed ? 1 : 0);
